//! The decoders of messages, over any bytes in any two pieces.

use xen9p::p9::wire::{Dialect, Reader, Reply, Request, kind};

/// Input: the dialect, and in the top bit whether the size field is left as it is; where to cut; then
/// a message.
pub fn run(input: &[u8]) {
    let [choice, cut, message @ ..] = input else {
        return;
    };
    let mut message = message.to_vec();
    if choice & 0x80 == 0 {
        set_size(&mut message);
    }
    let dialect = Dialect::ALL[usize::from(choice & 0x7f) % Dialect::ALL.len()];
    check(&message, dialect, usize::from(*cut));
}

/// Makes the size field say how long the message is.
pub fn set_size(message: &mut [u8]) {
    let size = message.len() as u32;
    if let Some(field) = message.first_chunk_mut() {
        *field = size.to_le_bytes();
    }
}

/// Decodes as one sort of message, whole and cut in two: both must come to the same. What comes out
/// must encode to the bytes that went in, or, where the decoder is lenient, at least to a message of
/// the same type.
macro_rules! check_as {
    ($enum:ident, $bytes:expr, $dialect:expr, $cut:expr) => {{
        let (bytes, dialect) = ($bytes, $dialect);
        let whole = $enum::decode(Reader::new(bytes, dialect));
        let (front, back) = bytes.split_at($cut);
        let mut scratch = vec![0; bytes.len()];
        let parts = $enum::decode(Reader::split(front, back, &mut scratch, dialect));
        assert_eq!(parts, whole);
        // Without scratch space it may fail, but nothing worse.
        let _ = $enum::decode(Reader::split(front, back, &mut [], dialect));
        if let Ok((tag, message)) = whole {
            let mut again = vec![0; bytes.len() + 64];
            let len = message
                .encode(tag, dialect, &mut again)
                .expect("what was decoded encodes");
            let again = &again[..len];
            if matches!(message.kind(), kind::RSTAT | kind::TWSTAT) || len != bytes.len() {
                let (_, decoded) =
                    $enum::decode(Reader::new(again, dialect)).expect("so does this");
                assert_eq!(decoded.kind(), message.kind());
            } else {
                assert_eq!(again, bytes);
            }
        }
    }};
}

/// Checks `bytes` as a request and as a reply, cut in two at `cut` or at the end.
pub fn check(bytes: &[u8], dialect: Dialect, cut: usize) {
    let cut = cut.min(bytes.len());
    check_as!(Request, bytes, dialect, cut);
    check_as!(Reply, bytes, dialect, cut);
}
