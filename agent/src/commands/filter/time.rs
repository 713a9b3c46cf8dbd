//! Times on the command line, for what is read from the past.

use anyhow::Context as _;
use bulkhead_api::event::Timestamp;

use crate::daemon::clock::wall_time;
use crate::exit::Usage;

/// A time, or one so long ago.
///
/// # Errors
/// [`Usage`] if it is neither.
pub fn read(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400_u64)];
    let ago = units
        .into_iter()
        .find_map(|(unit, seconds)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(seconds));
    let ago = ago.and_then(|seconds| seconds.checked_mul(1_000_000_000));
    let words =
        || Usage(format!("'{text}' is no time: give 2026-11-28T08:53:14Z, or 90s, 15m, 24h or 7d ago"));
    Ok(Timestamp::from_unix(wall_time().saturating_sub(ago.with_context(words)?)))
}
