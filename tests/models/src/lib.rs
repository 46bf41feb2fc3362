//! Models of what two domains do to the words that they share. loom runs each in every order of its steps, and lets a load
//! without ordering return any value that the memory model allows, as no run on one machine does.
//!
//! Each model follows code of the library step by step and names it; change both together. Each has variants with one
//! mistake, which must fail: a model that lets everything pass proves nothing.
//!
//! * `ring`: indices and events of a 9pfs ring (`transport/xen9pfs/ring.rs`);
//! * `event`: the words of pending events (`take_pending` of a `Platform`);
//! * `grant`: the words of a grant entry (`grant.rs`);
//! * `notify`: the bytes by which the two sides of a vchan ask for an event.
//!
//! And one without loom, of whole requests instead of words:
//!
//! * `circle`: domains that serve each other (`transport/desk.rs`, `Session::ask_for_others`).
#![cfg(test)]

mod circle;
mod event;
mod grant;
mod notify;
mod ring;
