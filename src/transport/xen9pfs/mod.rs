//! The Xen 9pfs frontend: interface pages, data rings, and the xenbus handshake. Its other half is in [`backend`].
//!
//! [`devices`] lists what the toolstack gave this domain, [`device`] picks one by its tag,
//! [`connect`] agrees on rings with the backend, and [`Xen9pfs`] carries messages over them:
//!
//! ```
//! # use xen9p::platform::Platform;
//! # use xen9p::xen::Xen;
//! # use xen9p::transport::xen9pfs::{self, Config, ConnectError, Xen9pfs};
//! # fn example<P: Platform>(xen: &Xen<P>) -> Result<Xen9pfs<P>, ConnectError> {
//! let share = xen9pfs::device(xen, Some("share"))?;
//! xen9pfs::connect(xen, share, &Config::for_memory(64 << 20))
//! # }
//! ```
//!
//! [`Endpoints`] follows the devices while the domain runs: they appear, are connected and disconnected, and
//! disappear.
//!
//! The backend is not trusted: what it writes is read once, checked and copied out, and the first
//! lie ends the connection. See [`ring`] for how.

pub mod backend;
mod config;
mod connect;
mod endpoint;
mod error;
mod follow;
mod lifecycle;
mod monitor;
pub mod ring;

pub use config::{Config, MAX_RINGS};
pub use connect::{connect, device, devices};
pub use endpoint::Xen9pfs;
pub use error::ConnectError;
pub use follow::{EndpointEvent, Endpoints};
pub use lifecycle::{Change, DeviceLifecycle, Stage};
