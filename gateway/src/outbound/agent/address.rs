//! Which addresses an agent may have: everything but loopback, link-local and metadata addresses; and,
//! where it is said so, but private ones for whoever names a URL and no Service.
//!
//! Takes a URL or a name that is being connected to, gives the addresses that may be. The check
//! runs on the very addresses that are connected to, so a name that resolves to another one a
//! moment later gains nothing. Never connects.
//!
//! Whoever may write a channel names the URL, and must not reach by it what only the gateway's
//! machine can: its own admin port, the credentials of its node. So an IPv6 address that stands for
//! an IPv4 one (mapped, NAT64) is judged as that one, redirects are not followed and the
//! environment's proxies are not used. Private addresses are an agent's in the cluster; with
//! `--agent-private=deny` (the chart's default in Cluster mode) they are for a `serviceRef` only, a
//! Service of the channel's own namespace. A route of an older operator does not say which agents
//! are one, and they keep what they had. Where a Service leads, by an ExternalName or by endpoints
//! written by hand, is a matter of rights in that namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::outbound::agent::answer::Failure;

/// Addresses where clouds serve the credentials of their machines, apart from the link-local one:
/// Alibaba, Oracle, Azure's host agent.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];
/// The same of Amazon, for machines and for pods, of Google, Oracle and Scaleway: addresses of
/// private networks, which are permitted otherwise.
const METADATA_V6: [Ipv6Addr; 5] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// What is allowed besides public addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Ranges that are allowed although they would be refused.
    ranges: Vec<IpNet>,
    /// Whether private addresses are refused.
    only_public: bool,
}

/// None of the addresses of a name may be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("every address of the agent is one that is not asked")]
pub struct AddressRefused;

/// Resolves names by the system, and leaves out what is refused.
#[derive(Clone, Debug)]
pub struct Resolver(Arc<Allow>);

/// The parsed URL, if it is one an agent can have and does not name a refused address itself.
pub fn check_url(url: &str, allow: &Allow) -> Result<Url, Failure> {
    let url = Url::parse(url).map_err(|_| Failure::Url)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Failure::Url);
    }
    let address = match url.host().ok_or(Failure::Url)? {
        Host::Domain(_) => return Ok(url),
        Host::Ipv4(address) => IpAddr::V4(address),
        Host::Ipv6(address) => IpAddr::V6(address),
    };
    if allow.permits(address) { Ok(url) } else { Err(Failure::Address) }
}

impl Allow {
    /// Allows these ranges besides everything that is not refused.
    pub fn new(ranges: Vec<IpNet>) -> Self {
        Self { ranges, only_public: false }
    }

    /// The same ranges, and of all others no private address.
    pub fn only_public(self) -> Self {
        Self { only_public: true, ..self }
    }

    /// The same ranges, and private addresses.
    pub fn with_private(&self) -> Self {
        Self { only_public: false, ..self.clone() }
    }

    /// Whether an address may be connected to.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = embedded(address);
        let refused = is_refused(address) || self.only_public && is_private(address);
        !refused || self.ranges.iter().any(|range| range.contains(&address))
    }
}

impl Resolver {
    /// A resolver that leaves out what `allow` does not permit.
    pub fn new(allow: Arc<Allow>) -> Self {
        Self(allow)
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let permitted: Vec<SocketAddr> =
                found.filter(|address| allow.permits(address.ip())).collect();
            if permitted.is_empty() {
                return Err(AddressRefused.into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

/// The IPv4 address that an IPv6 one stands for: mapped, translated by a NAT64 gateway under the prefix
/// of all or of this network, or tunnelled by 6to4.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return IpAddr::V4(v4);
    }
    let [a, b, c, d, e, f, high, low] = v6.segments();
    let v4 = |high: u16, low: u16| {
        let [[w, x], [y, z]] = [high.to_be_bytes(), low.to_be_bytes()];
        IpAddr::V4(Ipv4Addr::new(w, x, y, z))
    };
    match [a, b, c] {
        [0x64, 0xff9b, 0] if [d, e, f] == [0; 3] => v4(high, low),
        [0x64, 0xff9b, 1] => v4(high, low),
        [0x2002, ..] => v4(b, c),
        _ => address,
    }
}

/// Whether an address is of a private network: RFC 1918, shared by a provider's customers, unique local.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_private() || first == 100 && second & 0xc0 == 64
        }
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

fn is_refused(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_link_local()
                || v4.octets()[0] == 0
                || v4.is_broadcast()
                || v4.is_multicast()
                || METADATA_V4.contains(&v4)
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
                || METADATA_V6.contains(&v6)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Allow, check_url};
    use crate::outbound::agent::answer::Failure;

    #[test]
    fn loopback_link_local_and_metadata_addresses_are_refused() {
        for address in [
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::169.254.169.254",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(!Allow::default().permits(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn public_and_private_addresses_are_permitted() {
        for address in ["10.0.0.1", "192.168.1.1", "93.184.216.34", "2001:db8::1", "fd12::1"] {
            assert!(Allow::default().permits(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn where_only_public_addresses_are_allowed_private_ones_are_refused() {
        let allow = Allow::new(vec!["10.7.0.0/16".parse().unwrap()]).only_public();
        for address in [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "fd12::1",
            "fc00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::10.0.0.1",
            "2002:a00:1::1",
            "127.0.0.1",
        ] {
            assert!(!allow.permits(address.parse().unwrap()), "{address}");
        }
        for address in ["93.184.216.34", "172.32.0.1", "100.128.0.1", "2001:db8::1", "10.7.0.1"] {
            assert!(allow.permits(address.parse().unwrap()), "{address}");
        }
        assert!(allow.with_private().permits("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_range_that_is_named_is_permitted_in_both_notations() {
        let allow = Allow::new(vec!["127.0.0.0/8".parse().unwrap()]);
        assert!(allow.permits("127.0.0.1".parse().unwrap()));
        assert!(allow.permits("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!allow.permits("169.254.169.254".parse().unwrap()));
    }

    #[test]
    fn a_refused_address_in_the_url_itself_is_refused_however_it_is_written() {
        for url in [
            "http://127.0.0.1:8000/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
        ] {
            assert_eq!(check_url(url, &Allow::default()), Err(Failure::Address), "{url}");
        }
    }

    #[test]
    fn what_is_no_http_url_is_no_agent() {
        for url in ["", "agent", "file:///etc/passwd", "ftp://agent/", "unix:/run/agent"] {
            assert_eq!(check_url(url, &Allow::default()), Err(Failure::Url), "{url}");
        }
    }
}
