//! What xenstored sends, in any bytes and pieces of any size.

use xen9p::xen::store::Permission;
use xen9p::xen::store::wire::{
    Decoder, Message, check_path, decimal, refusal, strings, text, watch_event,
};

/// Input: the size of the pieces, then what comes over the ring.
pub fn run(input: &[u8]) {
    let [size, stream @ ..] = input else {
        return;
    };
    let (whole, end) = messages(stream, stream.len());
    let pieces = messages(stream, usize::from(*size));
    assert_eq!(pieces, (whole.clone(), end));

    let mut again = Vec::new();
    for message in &whole {
        assert_eq!(message.payload.len(), message.header.length as usize);
        again.extend(message.header.encode());
        again.extend(&message.payload);
        look_into(&message.payload);
    }
    assert_eq!(again, stream[..again.len()]);
    look_into(stream);
}

/// The messages of a stream that comes in pieces, and whether it ended well.
fn messages(stream: &[u8], size: usize) -> (Vec<Message>, bool) {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    for mut piece in stream.chunks(size.max(1)) {
        while !piece.is_empty() {
            match decoder.feed(&mut piece) {
                Ok(message) => messages.extend(message),
                Err(_) => return (messages, false),
            }
        }
    }
    (messages, true)
}

/// Reads a payload as everything that one can be.
fn look_into(payload: &[u8]) {
    let total: usize = strings(payload).map(|string| string.len() + 1).sum();
    assert!(
        total <= payload.len() + 1,
        "more strings than there is room for"
    );
    if let Some((path, token)) = watch_event(payload) {
        assert!(path.len() + token.len() < payload.len());
    }
    for string in strings(payload) {
        if let Ok(permission) = Permission::decode(string) {
            let encoded = permission.encode();
            assert_eq!(Permission::decode(encoded.as_bytes()), Ok(permission));
        }
        if let (Some(number), Ok(text)) = (decimal(string), text(string)) {
            assert_eq!(text.parse(), Ok(number));
        }
        if let Ok(text) = text(string) {
            let _ = check_path(&text);
        }
    }
    let _ = refusal(payload);
}
