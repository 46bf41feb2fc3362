//! What a frontend has written to be connected.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::store::parse_u32;

/// The rings that a frontend offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The rings: reference of the index page, event channel.
    pub rings: Vec<(u32, u32)>,
}

impl Offer {
    /// The offer of a 9pfs frontend (docs/misc/9pfs.pandoc) of at most `max_rings` rings, or what is wrong with it, in words. `read`
    /// gives the value of a node in the frontend's directory, if it is there.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn read<E>(
        max_rings: u32,
        mut read: impl FnMut(&str) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<Result<Offer, String>, E> {
        let text = |value: Option<Vec<u8>>| {
            let value = value.unwrap_or_default();
            String::from_utf8_lossy(&value).into_owned()
        };
        let version = read("version")?;
        if version.as_deref() != Some(b"1") {
            return Ok(Err(format!(
                "the frontend wants version {:?} of the rings, there is only 1",
                text(version)
            )));
        }
        let count = read("num-rings")?;
        let number = count.as_deref().and_then(|count| parse_u32(count).ok());
        let Some(number) = number.filter(|number| (1..=max_rings).contains(number)) else {
            return Ok(Err(format!(
                "the frontend has {:?} rings, between 1 and {max_rings} are possible",
                text(count)
            )));
        };
        let mut at_least_1 = |node: String| {
            let value = read(&node)?;
            let number = value.and_then(|value| parse_u32(&value).ok());
            Ok(number.filter(|number| *number > 0))
        };
        let mut rings = Vec::new();
        for index in 0..number {
            let reference = at_least_1(format!("ring-ref{index}"))?;
            let port = at_least_1(format!("event-channel-{index}"))?;
            let (Some(reference), Some(port)) = (reference, port) else {
                return Ok(Err(format!(
                    "the frontend's ring {index} lacks a grant reference or an event channel"
                )));
            };
            rings.push((reference, port));
        }
        Ok(Ok(Offer { rings }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::convert::Infallible;

    fn offer(nodes: &[(&str, &str)]) -> Result<Offer, String> {
        let read = |node: &str| {
            let found = nodes.iter().find(|(name, _)| *name == node);
            Ok::<_, Infallible>(found.map(|(_, value)| value.as_bytes().to_vec()))
        };
        Offer::read(8, read).unwrap()
    }

    #[test]
    fn offers_that_make_no_sense_are_refused() {
        let ring = [("ring-ref0", "8"), ("event-channel-0", "3")];
        let with = |more: &[(&'static str, &'static str)]| {
            let mut nodes = ring.to_vec();
            nodes.extend(more);
            offer(&nodes)
        };
        let rings = alloc::vec![(8, 3)];
        assert_eq!(
            with(&[("version", "1"), ("num-rings", "1")]),
            Ok(Offer { rings })
        );
        for (nodes, word) in [
            (&[("num-rings", "1")][..], "version"),
            (&[("version", "2"), ("num-rings", "1")], "version"),
            (&[("version", "1")], "rings"),
            (&[("version", "1"), ("num-rings", "0")], "rings"),
            (&[("version", "1"), ("num-rings", "9")], "rings"),
            (&[("version", "1"), ("num-rings", "4294967297")], "rings"),
            (&[("version", "1"), ("num-rings", "2")], "ring 1 lacks"),
        ] {
            let why = with(nodes).unwrap_err();
            assert!(why.contains(word), "{nodes:?}: {why}");
        }
        for ring in [
            ("ring-ref0", "0"),
            ("event-channel-0", "0"),
            ("ring-ref0", "-1"),
        ] {
            let nodes = [("version", "1"), ("num-rings", "1"), ring];
            assert!(offer(&nodes).unwrap_err().contains("lacks"), "{ring:?}");
        }
    }
}
