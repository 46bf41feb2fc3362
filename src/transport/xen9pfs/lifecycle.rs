//! The lifecycle of a device, as the Xen developers sketched it in 2005: a device appears; then it is connected and
//! disconnected, as often as one likes; then it disappears.
//!
//! Its three stages stand in a row, and [`DeviceLifecycle`] only ever goes from one to the next: there is no way to take a step
//! that is not the turn of.

/// Where a device is in its lifecycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// There is no such device, or no backend for it.
    #[default]
    Absent,
    /// It could be connected.
    Present,
    /// It is connected, for the time with this number.
    Connected(u64),
}

/// One step in the lifecycle of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The device is there, with a backend.
    Appeared,
    /// It was connected, for the time with this number: numbers grow, and those of connections that ended before the program looked
    /// are left out.
    Connected(u64),
    /// The connection with this number is over. Every request that was in flight has ended, or ends when its owner
    /// looks: nothing of this connection reaches a later one.
    Disconnected(u64),
    /// The device is gone, or its backend for good.
    Disappeared,
}

/// How much of a device's lifecycle was told so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceLifecycle {
    stage: Stage,
}

impl DeviceLifecycle {
    /// Where it is now.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Takes the next step on the way to `goal`; `None` when it is there.
    pub fn toward(&mut self, goal: Stage) -> Option<Change> {
        let (stage, change) = match (self.stage, goal) {
            (now, goal) if now == goal => return None,
            (Stage::Absent, _) => (Stage::Present, Change::Appeared),
            (Stage::Present, Stage::Connected(number)) => (goal, Change::Connected(number)),
            (Stage::Present, _) => (Stage::Absent, Change::Disappeared),
            (Stage::Connected(number), _) => (Stage::Present, Change::Disconnected(number)),
        };
        self.stage = stage;
        Some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn any_stage() -> impl Strategy<Value = Stage> {
        prop_oneof![
            Just(Stage::Absent),
            Just(Stage::Present),
            (1_u64..4).prop_map(Stage::Connected),
        ]
    }

    proptest! {
        /// Whatever is found out, and however rarely the program looks: what is told is a lifecycle.
        #[test]
        fn what_is_told_is_a_lifecycle(goals in prop::collection::vec((any_stage(), 0_usize..5), 0..40)) {
            let mut lifecycle = DeviceLifecycle::default();
            let mut told = Vec::new();
            for (goal, looks) in goals {
                for look in 0..looks {
                    match lifecycle.toward(goal) {
                        Some(change) => told.push(change),
                        None => prop_assert_eq!(lifecycle.stage(), goal),
                    }
                    // Down to Absent and up again are the longest ways.
                    prop_assert!(look < 3 || lifecycle.stage() == goal);
                }
            }
            while let Some(change) = lifecycle.toward(Stage::Absent) {
                told.push(change);
            }
            let mut there = false;
            let mut connected = None;
            for change in told {
                match change {
                    Change::Appeared => prop_assert!(!core::mem::replace(&mut there, true)),
                    Change::Connected(number) => {
                        prop_assert!(there);
                        prop_assert_eq!(connected.replace(number), None);
                    }
                    Change::Disconnected(number) => {
                        prop_assert_eq!(connected.take(), Some(number));
                    }
                    Change::Disappeared => {
                        prop_assert_eq!(connected, None);
                        prop_assert!(core::mem::replace(&mut there, false));
                    }
                }
            }
            prop_assert!(!there);
        }
    }
}
