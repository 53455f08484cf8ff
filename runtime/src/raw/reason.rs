//! Why a task is suspended.

/// Why a task is suspended; shown in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reason {
    /// Not suspended: running, or ready to run.
    Ready = 0,
    /// Waits for another task, in `JoinHandle::join` or `run`.
    Join,
    /// In `park()`.
    Park,
    /// In `yield_now()`.
    Yield,
    /// Waits for the end of a runtime.
    Shutdown,
    /// In `send` on a channel.
    Send,
    /// In `recv` on a channel.
    Receive,
    /// In `select!` or `Select`.
    Select,
    /// Waits for a lock of `sync`.
    Lock,
    /// Waits for something else in `sync`: a condition, a permit, a barrier, an initialisation.
    Sync,
    /// In `sleep`, or an interval's `tick`.
    Sleep,
    /// In `run` of another runtime.
    Run,
    /// Not started.
    Start,
    /// Not suspended: about to end, while its result is written. Appears in no report.
    End,
}

impl Reason {
    pub(crate) fn from_u8(raw: u8) -> Self {
        const ALL: [Reason; 14] = [
            Reason::Ready,
            Reason::Join,
            Reason::Park,
            Reason::Yield,
            Reason::Shutdown,
            Reason::Send,
            Reason::Receive,
            Reason::Select,
            Reason::Lock,
            Reason::Sync,
            Reason::Sleep,
            Reason::Run,
            Reason::Start,
            Reason::End,
        ];
        ALL.get(raw as usize).copied().unwrap_or(Self::Ready)
    }

    /// Worded to follow "task 7 is …".
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Ready => "running or ready to run",
            Self::Join => "waiting for another task to end",
            Self::Park => "parked",
            Self::Yield => "letting others run",
            Self::Shutdown => "waiting for a runtime to end",
            Self::Send => "sending to a channel",
            Self::Receive => "receiving from a channel",
            Self::Select => "selecting among channels",
            Self::Lock => "waiting for a lock",
            Self::Sync => "waiting for a condition, a permit or a barrier",
            Self::Sleep => "sleeping",
            Self::Run => "running another runtime",
            Self::Start => "not started",
            Self::End => "about to end",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_kept_and_reads_as_itself() {
        let mut texts = std::collections::HashSet::new();
        for raw in 0..=Reason::End as u8 {
            let reason = Reason::from_u8(raw);
            assert_eq!(reason as u8, raw);
            assert!(texts.insert(reason.describe()), "{reason:?} reads as another one");
        }
        assert_eq!(Reason::from_u8(Reason::End as u8 + 1), Reason::Ready);
    }
}
