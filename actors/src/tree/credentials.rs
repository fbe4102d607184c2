//! What attempts say about a connection's credentials: whether they are lost.

use crate::domain::timestamp::Timestamp;

/// Refusals in a row, each of an attempt that was started after the last was known, before a
/// connection's credentials are taken to be lost.
pub const REFUSALS_MAX: u32 = 3;

/// What is known of the credentials of one version of a connection.
///
/// Once they are refused, one attempt at a time asks whether they are lost: refusals of what was in
/// flight side by side say no more than one of them, and what waits need not all be refused first.
#[derive(Debug, Default)]
pub struct Credentials {
    version: u64,
    refusals: u32,
    worked_at: Option<Timestamp>,
}

/// What was known when an attempt started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    version: u64,
    refusals: u32,
}

impl Credentials {
    /// Those of this version are used from here on: what was known of others says nothing about them.
    pub fn are_of(&mut self, version: u64) {
        if self.version != version {
            *self = Self { version, ..Self::default() };
        }
    }

    /// How many attempts may be in flight, of at most `max`.
    pub fn allow(&self, max: usize) -> usize {
        if self.refusals > 0 { max.min(1) } else { max }
    }

    /// What is known now, for an attempt that starts.
    pub fn known(&self) -> Known {
        Known { version: self.version, refusals: self.refusals }
    }

    /// Whether an attempt used those of today.
    pub fn are_those_of(&self, known: Known) -> bool {
        self.version == known.version
    }

    /// When those that an attempt used last worked, as far as this life knows.
    pub fn worked_at(&self, known: Known) -> Option<Timestamp> {
        self.worked_at.filter(|_| self.are_those_of(known))
    }

    /// An attempt was let in.
    pub fn worked(&mut self, at: Timestamp) {
        (self.refusals, self.worked_at) = (0, Some(at));
    }

    /// An attempt was refused. `true`: they are lost.
    pub fn refused(&mut self, known: Known) -> bool {
        if known == self.known() {
            self.refusals += 1;
        }
        self.refusals >= REFUSALS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_version(version: u64) -> Credentials {
        let mut credentials = Credentials::default();
        credentials.are_of(version);
        credentials
    }

    /// I18: only refusals one after the other, of today's credentials, take a connection down.
    #[test]
    fn credentials_are_lost_when_they_are_refused_one_after_the_other() {
        let mut credentials = of_version(1);
        assert_eq!(credentials.allow(32), 32);
        for refusals in 1..=REFUSALS_MAX {
            assert_eq!(credentials.refused(credentials.known()), refusals == REFUSALS_MAX);
            assert_eq!(credentials.allow(32), 1, "one at a time asks whether they are lost");
        }
    }

    #[test]
    fn refusals_side_by_side_are_one() {
        let mut credentials = of_version(1);
        let in_flight = [credentials.known(); 32];
        assert!(!in_flight.into_iter().any(|known| credentials.refused(known)));
        assert_eq!(credentials.known().refusals, 1);
        credentials.worked(Timestamp(5));
        assert_eq!(
            (credentials.allow(32), credentials.worked_at(credentials.known())),
            (32, Some(Timestamp(5)))
        );
    }

    #[test]
    fn what_was_known_of_others_says_nothing() {
        let mut credentials = of_version(1);
        credentials.worked(Timestamp(5));
        let old = [credentials.known(); 16];
        credentials.are_of(2);
        assert_eq!(credentials.worked_at(credentials.known()), None);
        assert!(!old.into_iter().any(|known| credentials.are_those_of(known) || credentials.refused(known)));
        assert_eq!(credentials.allow(32), 32);
        credentials.refused(credentials.known());
        credentials.are_of(2);
        assert_eq!(credentials.allow(32), 1, "reading the same once more forgets nothing");
    }
}
