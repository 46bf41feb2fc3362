//! The parsers of directories' data, over any bytes.

use xen9p::p9::wire::{Dialect, DirEntries, StatEntries, StatLayout};

/// Input: the data of a directory.
pub fn run(input: &[u8]) {
    let mut again = vec![0; input.len()];
    let mut len = 0;
    let mut whole = true;
    for entry in DirEntries::new(input) {
        match entry {
            Ok(entry) => {
                len += entry
                    .encode(&mut again[len..])
                    .expect("it was there before")
            }
            Err(_) => whole = false,
        }
    }
    assert_eq!(again[..len], input[..len]);
    assert!(
        len == input.len() || !whole,
        "bytes were passed over in silence"
    );

    for dialect in [Dialect::Unix, Dialect::Plan9] {
        for layout in [StatLayout::Packed, StatLayout::Xen9pfsd] {
            let mut len = 0;
            let mut whole = true;
            for stat in StatEntries::new(input, dialect, layout) {
                match stat {
                    Ok(stat) => {
                        len += stat
                            .encode(dialect, &mut again)
                            .expect("it was there before")
                    }
                    Err(_) => whole = false,
                }
            }
            assert!(len <= input.len());
            if layout == StatLayout::Packed {
                assert!(
                    len == input.len() || !whole,
                    "bytes were passed over in silence"
                );
            }
        }
        StatLayout::of(input, dialect);
    }
}
