use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use larkauth_config::IpNet;

/// Header in which each proxy adds the address from which it was called.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Returns the address of the client. Every proxy adds the address of its own caller on the right, so the list is read from
/// there, and only as long as the address before is that of a trusted proxy: a client can write the left part itself.
pub(crate) fn client_address(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.ip().to_canonical();
    let values = headers.get_all(FORWARDED_FOR).into_iter().collect::<Vec<_>>();
    let hops = values.iter().rev().flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    for hop in hops {
        if !is_trusted(&client) {
            break;
        }
        let Some(address) = parse(hop.trim()) else { break };
        client = address;
    }
    client
}

/// Parses an address, with or without a port.
fn parse(hop: &str) -> Option<IpAddr> {
    let address = hop.parse().ok().or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn client(peer: &str, forwarded: &[&'static str], trusted: &[&str]) -> String {
        let headers = forwarded
            .iter()
            .map(|value| (FORWARDED_FOR.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn client_address_without_trusted_proxy_is_peer() {
        assert_eq!(client("192.0.2.1:5", &["198.51.100.7"], &[]), "192.0.2.1");
        assert_eq!(client("192.0.2.1:5", &["198.51.100.7"], &["10.0.0.0/8"]), "192.0.2.1");
        assert_eq!(client("[::ffff:192.0.2.1]:5", &[], &[]), "192.0.2.1");
    }

    #[test]
    fn client_address_behind_trusted_proxies_is_last_untrusted_hop() {
        let trusted = &["10.0.0.0/8", "fd00::/8"];
        for (forwarded, expected) in [
            (&["198.51.100.7"][..], "198.51.100.7"),
            // The client sent the first entry itself.
            (&["127.0.0.1, 198.51.100.7"], "198.51.100.7"),
            (&["198.51.100.7, 10.2.3.4"], "198.51.100.7"),
            (&["203.0.113.9", "198.51.100.7,10.2.3.4"], "198.51.100.7"),
            (&["198.51.100.7:4711"], "198.51.100.7"),
            (&["[2001:db8::1]:4711, fd00::2"], "2001:db8::1"),
            (&["::ffff:198.51.100.7"], "198.51.100.7"),
            (&[], "10.0.0.1"),
            (&["unknown"], "10.0.0.1"),
            (&["198.51.100.7, \"evil\", 10.2.3.4"], "10.2.3.4"),
            (&["10.1.1.1, 10.2.3.4"], "10.1.1.1"),
        ] {
            assert_eq!(client("10.0.0.1:5", forwarded, trusted), expected, "{forwarded:?}");
        }
    }
}
