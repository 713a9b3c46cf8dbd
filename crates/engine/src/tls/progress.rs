//! How far the beginning of one direction was compared, in 24 bits of its flow.

/// Bits of a sequence number that are kept: the bytes that are compared lie far closer to the SYN.
pub(super) const SEQUENCE: u32 = (1 << 19) - 1;

/// Bytes that are compared of a TLS record: its header, and the handshake's type or the alert's level.
pub(super) const RECORD: u32 = 6;
/// Length of PostgreSQL's SSLRequest.
pub(super) const SSL_REQUEST: u32 = 8;

/// One direction of a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress(u32);

/// What is known of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing yet: not even its SYN was seen.
    Unknown,
    /// The first bytes, so many, are those of a TLS record.
    Record(u32),
    /// The first bytes, so many, are those of what comes before TLS, and of the TLS record behind it. At least 1.
    Prelude(u32),
    /// It began as TLS, and the other end has not yet said that it has received that.
    Began,
    /// The same, behind what comes before TLS.
    BeganBehind,
    /// It began as TLS.
    Settled,
    /// It began otherwise.
    Plaintext,
    /// Its beginning was not seen.
    Unverified,
    /// Its SYN-ACK was seen, and not yet that the client has received that one.
    Offered,
}

/// In 5 bits: 0 is unknown, then come 0 to 5 bytes of a record, and 1 to 13 of a prelude and a record.
const RECORDS: u32 = 1;
const PRELUDES: u32 = RECORDS + RECORD - 1;
const BEGAN: u32 = PRELUDES + SSL_REQUEST + RECORD;
const _: () = assert!(BEGAN + 5 < 32);

impl State {
    #[inline(always)]
    const fn number(self) -> u32 {
        match self {
            Self::Unknown => 0,
            Self::Record(bytes) => RECORDS + bytes,
            Self::Prelude(bytes) => PRELUDES + bytes,
            Self::Began => BEGAN,
            Self::Settled => BEGAN + 1,
            Self::Plaintext => BEGAN + 2,
            Self::Unverified => BEGAN + 3,
            Self::Offered => BEGAN + 4,
            Self::BeganBehind => BEGAN + 5,
        }
    }
}

impl Progress {
    #[inline(always)]
    pub(super) const fn from_bits(bits: u32) -> Self {
        Self(bits & 0xff_ffff)
    }

    #[inline(always)]
    pub(super) const fn bits(self) -> u32 {
        self.0
    }

    /// Without a sequence number.
    #[inline(always)]
    pub(super) const fn of(state: State) -> Self {
        Self(state.number() << 19)
    }

    /// Nothing is compared yet of what follows a SYN with this sequence number.
    #[inline(always)]
    pub(super) const fn after(syn: u32) -> Self {
        Self(State::Record(0).number() << 19 | syn & SEQUENCE)
    }

    #[inline(always)]
    pub(super) const fn with(self, state: State) -> Self {
        Self(state.number() << 19 | self.0 & SEQUENCE)
    }

    #[inline(always)]
    pub(super) const fn state(self) -> State {
        match self.0 >> 19 & 31 {
            0 => State::Unknown,
            number if number <= PRELUDES => State::Record(number - RECORDS),
            number if number < BEGAN => State::Prelude(number - PRELUDES),
            number if number == BEGAN => State::Began,
            number if number == BEGAN + 1 => State::Settled,
            number if number == BEGAN + 2 => State::Plaintext,
            number if number == BEGAN + 4 => State::Offered,
            number if number == BEGAN + 5 => State::BeganBehind,
            _ => State::Unverified,
        }
    }

    /// How far a sequence number lies behind the SYN's.
    #[inline(always)]
    pub(super) const fn distance(self, sequence: u32) -> u32 {
        sequence.wrapping_sub(self.0) & SEQUENCE
    }

    /// Whether bytes of it are compared still.
    #[inline(always)]
    pub(super) const fn is_open(self) -> bool {
        matches!(
            self.state(),
            State::Offered | State::Record(_) | State::Prelude(_) | State::Began | State::BeganBehind
        )
    }

    /// Whether its SYN was seen.
    #[inline(always)]
    pub(super) const fn is_known(self) -> bool {
        !matches!(self.state(), State::Unknown | State::Unverified)
    }

    /// Whether it began as TLS, and that may not have been received.
    #[inline(always)]
    pub(super) const fn has_begun(self) -> bool {
        matches!(self.state(), State::Began | State::BeganBehind)
    }
}

#[cfg(test)]
mod tests {
    use super::{Progress, RECORD, SSL_REQUEST, State};

    #[test]
    fn states_come_out_as_they_went_in() {
        let records = (0..RECORD).map(State::Record);
        let preludes = (1..SSL_REQUEST + RECORD).map(State::Prelude);
        let begun = [State::Began, State::BeganBehind, State::Settled];
        let rest = [State::Unknown, State::Offered, State::Plaintext, State::Unverified];
        for state in records.chain(preludes).chain(begun).chain(rest) {
            let progress = Progress::after(0xffff_fff0).with(state);
            assert_eq!(Progress::from_bits(progress.bits()).state(), state);
            assert_eq!(progress.distance(0xffff_fff1), 1);
            assert_eq!(progress.distance(2), 18, "sequence numbers wrap");
        }
        assert_eq!(Progress::from_bits(0).state(), State::Unknown);
    }
}
