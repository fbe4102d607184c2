//! Where a request came from when proxies stand between.
//!
//! Only a proxy that the configuration names is believed, and of `X-Forwarded-For` only what such proxies
//! wrote: they add to its end, so it is read from there, up to the first address that is no proxy of ours.

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use std::net::IpAddr;

pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Networks whose `X-Forwarded-For` is believed.
#[derive(Clone, Debug, Default)]
pub struct Proxies(pub Vec<IpNet>);

impl Proxies {
    /// The address that `peer`, who is connected, speaks for: its own, unless it is a proxy of ours.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let lists = headers.get_all(FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or_default());
        let lists: Vec<_> = lists.flat_map(|list| list.split(',')).collect();
        for text in lists.into_iter().rev() {
            if !self.0.iter().any(|network| network.contains(&client)) {
                break;
            }
            let Ok(before) = text.trim().parse::<IpAddr>() else { break };
            client = before.to_canonical();
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_our_own_proxies_wrote_is_believed() {
        let proxies = Proxies(vec!["10.0.0.0/8".parse().expect("a network")]);
        #[rustfmt::skip]
        let cases: [(&str, &str, &[&str], &str); 10] = [
            // why                               peer             X-Forwarded-For                            from
            ("nobody between",                   "192.0.2.1",     &[],                                       "192.0.2.1"),
            ("a stranger claims",                "192.0.2.1",     &["198.51.100.7"],                         "192.0.2.1"),
            ("our proxy",                        "10.0.0.1",      &["198.51.100.7"],                         "198.51.100.7"),
            ("it says nothing",                  "10.0.0.1",      &[],                                       "10.0.0.1"),
            ("what the client made up",          "10.0.0.1",      &["203.0.113.9, 198.51.100.7"],            "198.51.100.7"),
            ("two of ours",                      "10.0.0.1",      &["198.51.100.7, 10.0.0.2"],               "198.51.100.7"),
            ("in two headers",                   "10.0.0.1",      &["203.0.113.9", "198.51.100.7,10.0.0.2"], "198.51.100.7"),
            ("a proxy of ours is the client",    "10.0.0.1",      &["10.0.0.3"],                             "10.0.0.3"),
            ("nonsense",                         "10.0.0.1",      &["198.51.100.7, unknown"],                "10.0.0.1"),
            ("mapped to IPv6",                   "::ffff:10.0.0.1", &["2001:db8::1"],                        "2001:db8::1"),
        ];
        for (why, peer, forwarded, expected) in cases {
            let mut headers = HeaderMap::new();
            for list in forwarded {
                headers.append(FORWARDED_FOR, list.parse().expect("a header value"));
            }
            let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
            assert_eq!(proxies.client(ip(peer), &headers), ip(expected), "{why}");
        }
        let headers: HeaderMap =
            [(FORWARDED_FOR, "198.51.100.7".parse().expect("a value"))].into_iter().collect();
        let peer = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(Proxies::default().client(peer, &headers), peer, "nobody is believed by default");
    }
}
