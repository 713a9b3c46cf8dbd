//! Look-ups as global functions: the verifier looks at each once, by itself, and not again at every
//! call. Only the fast path has them in line.

use bulkhead_abi::{Address, Direction, Leaf, exact_address, host_key};
use bulkhead_engine::{Judgement, Reason, judge as judge_in, leaf_of};

use crate::environment::{MAPS, STAGED};

/// Beside a leaf: there is none, since a look-up failed.
const FAILED: u64 = 1 << 32;

macro_rules! look_ups {
    ($maps:ident, $leaf:ident, $judge:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $leaf(version: u32, high: u64, low: u64) -> u64 {
            match leaf_of(&$maps, version as u8, &exact_address([high, low])) {
                Ok(leaf) => u64::from(leaf.0),
                Err(_) => FAILED,
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $judge(direction: u32, local: u32, remote: u32, protocol: u32, port: u32) -> u64 {
            let direction = Direction::of_index(direction);
            judge_in(&$maps, direction, [local, remote], protocol as u8, port as u16).pack()
        }
    };
}

look_ups!(MAPS, address_leaf, class_judge);
look_ups!(STAGED, staged_address_leaf, staged_class_judge);

/// [`leaf_of`]; the only way in which it fails is [`Reason::LookupFailed`].
#[inline(always)]
pub(crate) fn leaf<const OBSERVING: bool>(version: u8, address: &Address) -> Result<Leaf, Reason> {
    let [high, low] = host_key(*address);
    let call = if OBSERVING { staged_address_leaf } else { address_leaf };
    match call(version.into(), high, low) {
        leaf if leaf & FAILED == 0 => Ok(Leaf(leaf as u32)),
        _ => Err(Reason::LookupFailed),
    }
}

/// [`bulkhead_engine::judge`].
#[inline(always)]
pub(crate) fn judge<const OBSERVING: bool>(
    direction: Direction,
    [local, remote]: [u32; 2],
    protocol: u8,
    port: u16,
) -> Judgement {
    let call = if OBSERVING { staged_class_judge } else { class_judge };
    Judgement::unpack(call(direction.index(), local, remote, protocol.into(), port.into()))
}
