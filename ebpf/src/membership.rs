//! Membership reports of many groups: what they name and may not is masked in the packet.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;
use bulkhead_engine::report::{
    MASK4, MASK6, Mask, RECORD_BROKEN, RECORD_FOREIGN, judge_report, mask, record,
};
use bulkhead_engine::{Case, Environment as _};

use crate::environment::MAPS;
use crate::packets::tc_packet;

/// Judges a report that goes out. A global function, like the next one: the verifier looks at each once,
/// by itself, and not again for every record. It knows the case as memory that may not be there.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn tc_report(ctx: *mut __sk_buff, case: *mut Case) -> u32 {
    // SAFETY: the verifier makes sure that what is not null can be written; the case is this CPU's own.
    if let Some(case) = unsafe { case.as_mut() } {
        let ctx = TcContext::new(ctx);
        judge_report(&tc_packet(&ctx), case, |case| tc_record(ctx.skb.skb, case));
    }
    0
}

/// Judges its next record, and masks the group if it is foreign: a `RECORD_` bit. In audit mode nothing
/// is changed.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tc_record(ctx: *mut __sk_buff, case: *mut Case) -> u32 {
    // SAFETY: as above.
    let Some(case) = (unsafe { case.as_mut() }) else {
        return RECORD_BROKEN;
    };
    let ctx = TcContext::new(ctx);
    let packet = tc_packet(&ctx);
    let at = case.headers.next_record;
    let found = record(&MAPS, &packet, &mut case.headers);
    if found != RECORD_FOREIGN || MAPS.audit() {
        return found;
    }
    match mask(&packet, &case.headers, at) {
        Some(mask) if write(&ctx, case.headers.version, mask) => RECORD_FOREIGN,
        _ => RECORD_BROKEN,
    }
}

/// Writes a mask; false if the packet cannot be written.
#[inline(always)]
fn write(ctx: &TcContext, version: u8, mask: Mask) -> bool {
    let group = mask.group as usize;
    let masked = if version == 4 { ctx.store(group, &MASK4, 0) } else { ctx.store(group, &MASK6, 0) };
    masked.is_ok() && ctx.store(mask.checksum_at as usize, &mask.checksum, 0).is_ok()
}
