use std::net::{IpAddr, Ipv6Addr};

use url::Url;

/// Returns whether a host is this machine: `localhost`, a name under it, or a loopback address, with or without brackets.
#[must_use]
pub fn is_loopback_host(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback(),
        Ok(IpAddr::V6(ip)) => is_loopback_v6(ip),
        Err(_) => {
            let host = host.to_ascii_lowercase();
            host == "localhost" || host.ends_with(".localhost")
        }
    }
}

/// Returns whether an address leads to this machine. An address without a host does not.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(is_loopback_host)
}

fn is_loopback_v6(ip: Ipv6Addr) -> bool {
    ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_loopback_host_this_machine_only() {
        for host in
            ["localhost", "LOCALHOST", "localhost.", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"]
        {
            assert!(is_loopback_host(host), "{host}");
        }
        assert!(is_loopback_host("::ffff:127.0.0.1"));
        for host in [
            "",
            "localhost.example.com",
            "notlocalhost",
            "127.0.0.1.example.com",
            "128.0.0.1",
            "10.0.0.1",
            "::2",
        ] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }
}
