//! Membership reports of many groups: what they name and may not is masked in the packet.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;
use bulkhead_engine::report::{
    MASK4, MASK6, Mask, RECORD_BROKEN, RECORD_FOREIGN, judge_report, mask, record,
};
use bulkhead_engine::{Environment as _, Metadata};

use crate::environment::MAPS;
use crate::packets::tc_packet;

/// Judges a report that goes out. A global function, like the next one: the verifier looks at each once,
/// by itself, and not again for every record. It knows the metadata as memory that may not be there.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn tc_report(ctx: *mut __sk_buff, meta: *mut Metadata) -> u32 {
    // SAFETY: the verifier makes sure that what is not null can be written; the metadata is this CPU's own.
    if let Some(meta) = unsafe { meta.as_mut() } {
        let ctx = TcContext::new(ctx);
        judge_report(&tc_packet(&ctx), meta, |meta| tc_record(ctx.skb.skb, meta));
    }
    0
}

/// Judges its next record, and masks the group if it is foreign: a `RECORD_` bit. In audit mode nothing
/// is changed.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tc_record(ctx: *mut __sk_buff, meta: *mut Metadata) -> u32 {
    // SAFETY: as above.
    let Some(meta) = (unsafe { meta.as_mut() }) else {
        return RECORD_BROKEN;
    };
    let ctx = TcContext::new(ctx);
    let packet = tc_packet(&ctx);
    let at = meta.headers.next_record;
    let found = record(&MAPS, &packet, &mut meta.headers);
    if found != RECORD_FOREIGN || MAPS.audit() {
        return found;
    }
    match mask(&packet, &meta.headers, at) {
        Some(mask) if write(&ctx, meta.headers.version, mask) => RECORD_FOREIGN,
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
