//! How long a ring's thread looks at an empty ring before it sleeps.
//!
//! To sleep and to be woken costs a thread of dom0 several times what a small request does, and a guest that works through files
//! sends its next request right after the reply to the last. So a thread goes on looking for a moment, and where nothing comes
//! leaves that out for the next few times: a guest that takes its time costs no more than that.

use std::hint::spin_loop;
use std::time::{Duration, Instant};

/// How long it looks. KVM looks as long before a virtual processor sleeps.
const LOOK_TIME: Duration = Duration::from_micros(200);

/// Looks between two at the clock.
const LOOKS: u32 = 32;

/// How many times it is left out at most.
const MAX_PAUSE: u32 = 64;

/// What a thread has learnt of its ring.
#[derive(Debug, Default)]
pub struct Patience {
    /// How many times looking was left out after it was in vain the last time; twice as many the next time.
    pause: u32,
    /// How many of them are still to come.
    left: u32,
}

impl Patience {
    /// Looks until there is news, or for long enough; says whether there is. May not look at all.
    ///
    /// # Errors
    /// Those of `has_news`.
    pub fn look<E>(&mut self, mut has_news: impl FnMut() -> Result<bool, E>) -> Result<bool, E> {
        if self.left > 0 {
            self.left -= 1;
            return Ok(false);
        }
        let start = Instant::now();
        while start.elapsed() < LOOK_TIME {
            for _ in 0..LOOKS {
                if has_news()? {
                    self.pause = 0;
                    return Ok(true);
                }
                spin_loop();
            }
        }
        self.pause = (2 * self.pause).clamp(1, MAX_PAUSE);
        self.left = self.pause;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sleeps until the next look; with `news`, that one finds some at its third try.
    fn sleeps_before_a_look(patience: &mut Patience, news: bool) -> u32 {
        for sleeps in 0..1000 {
            let mut looks = 0;
            let found = patience.look(|| {
                looks += 1;
                Ok::<_, ()>(news && looks == 3)
            });
            match looks {
                0 => assert_eq!(found, Ok(false)),
                _ => {
                    assert_eq!(found, Ok(news));
                    return sleeps;
                }
            }
        }
        panic!("it never looks again")
    }

    #[test]
    fn where_nothing_comes_it_looks_ever_more_rarely_and_where_something_does_always() {
        let mut patience = Patience::default();
        let in_vain: Vec<u32> = (0..9)
            .map(|_| sleeps_before_a_look(&mut patience, false))
            .collect();
        assert_eq!(in_vain, [0, 1, 2, 4, 8, 16, 32, 64, 64]);
        assert_eq!(sleeps_before_a_look(&mut patience, true), 64);
        for _ in 0..10 {
            assert_eq!(sleeps_before_a_look(&mut patience, true), 0);
        }
        assert_eq!(sleeps_before_a_look(&mut patience, false), 0);
        assert_eq!(sleeps_before_a_look(&mut patience, true), 1);
    }

    #[test]
    fn a_lie_that_is_seen_is_an_error() {
        assert_eq!(Patience::default().look(|| Err("lie")), Err("lie"));
    }
}
