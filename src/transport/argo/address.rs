//! Addresses on the command line.

use super::DialError;
use crate::hypercall::DomId;
use crate::xen::argo::Address;

/// The other domain and a port: `DOMID!PORT`, what follows `argo!` in an address.
///
/// ```
/// use xen9p::transport::argo::{DialError, parse_address};
///
/// assert_eq!(parse_address("7!564").unwrap().port, 564);
/// assert!(matches!(parse_address("7!9p"), Err(DialError::Address(_))));
/// ```
///
/// # Errors
/// [`DialError::Address`].
pub fn parse_address(target: &str) -> Result<Address, DialError> {
    let (domain, port) = target.split_once('!').ok_or(DialError::Address(
        "there is no port behind the domain's number",
    ))?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let domain = Some(domain)
        .filter(|text| is_number(text))
        .and_then(|text| text.parse().ok())
        .map(DomId)
        .filter(|domain| *domain < DomId::FIRST_RESERVED)
        .ok_or(DialError::Address("the domain is not a number below 32752"))?;
    let port = Some(port)
        .filter(|text| is_number(text))
        .and_then(|text| text.parse().ok())
        .ok_or(DialError::Address("the port is not a number below 2^32"))?;
    Ok(Address { domain, port })
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
            "!1",
            "x!1",
            "1!x",
            "-1!1",
            "+1!1",
            "1!+1",
            "1! 1",
            "1!1!1",
            "32752!1",
            "65536!1",
            "1!4294967296",
            "99999999999!1",
            "1!1\0",
            "1!é",
        ] {
            let refused = parse_address(address);
            assert!(
                matches!(refused, Err(DialError::Address(_))),
                "{address}: {refused:?}"
            );
        }
        let largest = parse_address("32751!4294967295").unwrap();
        assert_eq!((largest.domain, largest.port), (DomId(32751), u32::MAX));
    }
}
