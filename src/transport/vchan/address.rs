//! Where in xenstore the two sides of a vchan find each other.

use alloc::format;
use alloc::string::String;

use super::VchanError;
use crate::hypercall::DomId;

/// The longest path that libxenvchan does not cut: it has 64 bytes for it, `/event-channel` and a final NUL.
const MAX_PATH: usize = 49;

/// The other domain and the name of the vchan: `DOMID!NAME`, what follows `vchan!` in an address.
///
/// ```
/// use xen9p::hypercall::DomId;
/// use xen9p::transport::vchan::{VchanError, parse_address};
///
/// assert_eq!(parse_address("7!logs"), Ok((DomId(7), "logs")));
/// assert!(matches!(parse_address("dom0!logs"), Err(VchanError::Address(_))));
/// ```
///
/// # Errors
/// [`VchanError::Address`].
pub fn parse_address(target: &str) -> Result<(DomId, &str), VchanError> {
    let (domain, name) = target.split_once('!').ok_or(VchanError::Address(
        "there is no name behind the domain's number",
    ))?;
    let digits = domain.bytes().all(|byte| byte.is_ascii_digit());
    let number = domain.parse().ok().filter(|_| digits).map(DomId);
    let domain = number
        .filter(|domain| *domain < DomId::FIRST_RESERVED)
        .ok_or(VchanError::Address(
            "the domain is not a number below 32752",
        ))?;
    check_name(name)?;
    Ok((domain, name))
}

fn check_name(name: &str) -> Result<(), VchanError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_@/".contains(&byte);
    let parts = name.strip_prefix('/').unwrap_or(name);
    if !name.bytes().all(allowed) || parts.split('/').any(str::is_empty) {
        return Err(VchanError::Address(
            "a name consists of letters, digits, '-', '_' and '@', and of '/' between them",
        ));
    }
    Ok(())
}

/// The directory of the vchan with this name from `server` to `client`. A name that begins with `/` is the path itself.
pub(super) fn path(server: DomId, client: DomId, name: &str) -> Result<String, VchanError> {
    check_name(name)?;
    let path = match name.starts_with('/') {
        true => name.into(),
        false => format!("/local/domain/{server}/data/vchan/{client}/{name}"),
    };
    match path.len() {
        ..=MAX_PATH => Ok(path),
        len => Err(VchanError::LongPath(len)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_addresses_are_refused() {
        for address in [
            "",
            "1",
            "1!",
            "!x",
            "x!y",
            "-1!x",
            "+1!x",
            "1!a b",
            "1!a//b",
            "1!/",
            "1!a/",
            "1!a\0",
            "32752!x",
            "65536!x",
            "99999999999!x",
            "1!é",
        ] {
            let refused = parse_address(address);
            assert!(
                matches!(refused, Err(VchanError::Address(_))),
                "{address}: {refused:?}"
            );
        }
        assert_eq!(parse_address("0!/local/x"), Ok((DomId(0), "/local/x")));
        assert_eq!(parse_address("32751!a/b@1"), Ok((DomId(32751), "a/b@1")));
    }

    #[test]
    fn a_path_is_as_long_as_libxenvchan_reads() {
        let whole = |name: &str| path(DomId(123), DomId(456), name);
        assert_eq!(whole("9p").unwrap(), "/local/domain/123/data/vchan/456/9p");
        assert_eq!(whole(&"n".repeat(16)).unwrap().len(), 49);
        assert_eq!(whole(&"n".repeat(17)), Err(VchanError::LongPath(50)));
        assert_eq!(whole(&format!("/{}", "n".repeat(48))).unwrap().len(), 49);
    }
}
