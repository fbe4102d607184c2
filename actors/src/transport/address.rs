//! Which addresses may be spoken to: the guard between a customer's URL and the operator's network.
//!
//! A customer names the URL, so he must not be able to name the metadata service, a database or
//! ourselves. One decision on the address ([`AddressPolicy::allows`]) is asked when a URL is
//! saved, before each send, on every answer of the resolver and on the peer of each connection.
//! Ranges: the IANA special-purpose registries, <https://www.iana.org/assignments/iana-ipv4-special-registry>
//! and <https://www.iana.org/assignments/iana-ipv6-special-registry>.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use url::{Host, Url};

/// The longest URL taken, in bytes.
pub const URL_BYTES_MAX: usize = 2_048;

/// The longest host name and the longest part of it, in bytes (RFC 1035).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// What may be reached beyond the public internet: nothing, unless the operator says so.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    /// Addresses allowed although they are not public.
    pub allow: Vec<IpNet>,
    /// Plain `http` is allowed too.
    pub allow_http: bool,
}

/// Why a URL or an address is refused. Says what is wrong with it, never what was found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("destination address is not allowed: it is longer than {URL_BYTES_MAX} bytes")]
    TooLong,
    #[error(
        "destination address is not allowed: it may hold printable ASCII only, without spaces and backslashes"
    )]
    Characters,
    #[error("destination address is not allowed: it must start with https://")]
    Scheme,
    #[error("destination address is not allowed: it must not hold a user name or password")]
    UserInfo,
    #[error("destination address is not allowed: it must not hold a fragment (#)")]
    Fragment,
    #[error("destination address is not allowed: its port must be from 1 to 65535")]
    Port,
    #[error("destination address is not allowed: it has no valid host")]
    Host,
    #[error("destination address is not allowed: its host must be spelled in its plain form")]
    Spelling,
    #[error("destination address is not allowed: its host is a local name")]
    LocalName,
    #[error("destination address is not allowed: it is not a public address")]
    NotPublic,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

#[rustfmt::skip] // the reasons are the point
const FORBIDDEN_V4: [Ipv4Net; 15] = [
    v4(0, 0, 0, 0, 8),        // this host: connects to loopback
    v4(10, 0, 0, 0, 8),       // private
    v4(100, 64, 0, 0, 10),    // carrier NAT; a cloud's metadata service
    v4(127, 0, 0, 0, 8),      // loopback
    v4(169, 254, 0, 0, 16),   // link-local; cloud metadata services
    v4(172, 16, 0, 0, 12),    // private
    v4(192, 0, 0, 0, 24),     // protocol assignments
    v4(192, 0, 2, 0, 24),     // documentation
    v4(192, 88, 99, 0, 24),   // 6to4 relays
    v4(192, 168, 0, 0, 16),   // private
    v4(198, 18, 0, 0, 15),    // benchmarks
    v4(198, 51, 100, 0, 24),  // documentation
    v4(203, 0, 113, 0, 24),   // documentation
    v4(224, 0, 0, 0, 4),      // multicast
    v4(240, 0, 0, 0, 4),      // reserved, broadcast
];

/// The only IPv6 range handed out for public use; all other spellings of IPv4 lie outside it.
const PUBLIC_V6: Ipv6Net = v6(0x2000, 0, 3);

#[rustfmt::skip] // the reasons are the point
const FORBIDDEN_V6: [Ipv6Net; 4] = [
    v6(0x2001, 0, 23),        // protocol assignments, Teredo, ORCHID
    v6(0x2001, 0x0db8, 32),   // documentation
    v6(0x2002, 0, 16),        // 6to4: carries any IPv4 address
    v6(0x3fff, 0, 20),        // documentation
];

/// Addresses that a NAT64 gateway turns into the IPv4 address in their last four bytes (RFC 6052).
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 96);

/// The same for gateways of one's own, which may have any prefix in it (RFC 8215).
const NAT64_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48);

const LOCAL_SUFFIXES: [&str; 5] = ["localhost", "local", "internal", "localdomain", "home.arpa"];

impl AddressPolicy {
    /// The decision: may a connection be made to this address?
    pub fn allows(&self, ip: IpAddr) -> bool {
        let mut listings = self.allow.iter().filter(|net| net.contains(&ip)).peekable();
        let listed = listings.peek().is_some();
        match ip {
            IpAddr::V4(ip) => listed || !FORBIDDEN_V4.iter().any(|net| net.contains(&ip)),
            IpAddr::V6(ip) if NAT64.contains(&ip) || NAT64_LOCAL.contains(&ip) => {
                let mut stands_for = listings.flat_map(|net| embedded_v4(ip, net.prefix_len()));
                listed && stands_for.all(|ip| self.allows(ip.into()))
            }
            IpAddr::V6(ip) => {
                listed || (PUBLIC_V6.contains(&ip) && !FORBIDDEN_V6.iter().any(|net| net.contains(&ip)))
            }
        }
    }

    /// Reads a customer's URL and refuses what must not be reached.
    ///
    /// The text is judged before it is parsed, and the parser's host must be the one that was
    /// typed: browsers' leniencies (`127.1`, `0x7f.1`, full-width digits) are no one's intent here.
    /// Where a name leads is asked when a connection is made.
    pub fn check_url(&self, text: &str) -> Result<Url, AddressError> {
        if text.len() > URL_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
            return Err(AddressError::Characters);
        }
        if text.contains('#') {
            return Err(AddressError::Fragment);
        }
        let (_, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(AddressError::UserInfo);
        }
        let (host, port) = split_port(authority).ok_or(AddressError::Host)?;
        if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
            return Err(AddressError::Port);
        }
        let url = Url::parse(text).map_err(|_| AddressError::Host)?;
        if url.host_str() != Some(&host.to_ascii_lowercase()) {
            return Err(AddressError::Spelling);
        }
        self.check(&url)?;
        Ok(url)
    }

    /// Judges a parsed URL: cheap enough to be asked before each request.
    pub fn check(&self, url: &Url) -> Result<(), AddressError> {
        if url.scheme() != "https" && !(self.allow_http && url.scheme() == "http") {
            return Err(AddressError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::UserInfo);
        }
        if url.port() == Some(0) {
            return Err(AddressError::Port);
        }
        match url.host() {
            None => Err(AddressError::Host),
            Some(Host::Domain(name)) => self.check_name(name),
            Some(Host::Ipv4(ip)) => self.check_ip(ip.into()),
            Some(Host::Ipv6(ip)) => self.check_ip(ip.into()),
        }
    }

    /// The addresses of `localhost` that may be reached: none, unless the operator listed loopback.
    pub fn localhost(&self) -> impl Iterator<Item = IpAddr> {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        loopback.into_iter().filter(|ip| self.allows(*ip))
    }

    fn check_ip(&self, ip: IpAddr) -> Result<(), AddressError> {
        if self.allows(ip) { Ok(()) } else { Err(AddressError::NotPublic) }
    }

    fn check_name(&self, name: &str) -> Result<(), AddressError> {
        let bad_label = |label: &str| label.is_empty() || label.len() > LABEL_BYTES_MAX;
        if name.len() > NAME_BYTES_MAX || name.split('.').any(bad_label) {
            return Err(AddressError::Host);
        }
        if name == "localhost" && self.localhost().next().is_some() {
            return Ok(());
        }
        let is_under = |suffix: &&str| name.strip_suffix(*suffix).is_some_and(|rest| rest.ends_with('.'));
        if !name.contains('.') || name == "home.arpa" || LOCAL_SUFFIXES.iter().any(is_under) {
            return Err(AddressError::LocalName);
        }
        Ok(())
    }
}

/// Host and port of what stands between `//` and the path. An empty port is no port number.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let host_len = match authority.starts_with('[') {
        true => authority.find(']')? + 1,
        false => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(host_len);
    match rest {
        "" => Some((host, None)),
        _ => Some((host, Some(rest.strip_prefix(':')?))),
    }
}

/// The IPv4 addresses that gateways with a prefix of this length, or a longer one, may read here
/// (RFC 6052, 2.2). Nothing but zeros is where no such gateway would look.
fn embedded_v4(ip: Ipv6Addr, prefix_len: u8) -> impl Iterator<Item = Ipv4Addr> {
    let octets = ip.octets();
    let at = move |places: [usize; 4]| Ipv4Addr::from(places.map(|place| octets[place]));
    let last = at([12, 13, 14, 15]);
    let readings = match prefix_len {
        48 => [Some(at([6, 7, 9, 10])), Some(last)],
        56 => [Some(at([7, 9, 10, 11])), Some(last)],
        // Here the two overlap: what is read is the one.
        64 => [Some(at([9, 10, 11, 12])), None],
        _ => [None, Some(last)],
    };
    let are_zeros = readings.iter().flatten().all(|ip| ip.is_unspecified());
    readings.into_iter().flatten().filter(move |ip| are_zeros || !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow: &[&str]) -> AddressPolicy {
        let allow = allow.iter().map(|net| net.parse().expect("a CIDR")).collect();
        AddressPolicy { allow, allow_http: true }
    }

    fn allows(policy: &AddressPolicy, ip: &str) -> bool {
        policy.allows(ip.parse().expect(ip))
    }

    #[test]
    fn every_special_range_is_refused_and_its_neighbours_are_not() {
        #[rustfmt::skip]
        let cases = [
            // range              inside                                      just outside
            ("this host",         &["0.0.0.0", "0.255.255.255"][..],          &["1.0.0.0"][..]),
            ("private 10",        &["10.0.0.0", "10.255.255.255"],            &["9.255.255.255", "11.0.0.0"]),
            ("carrier NAT",       &["100.64.0.0", "100.127.255.255",
                                    "100.100.100.200"],                       &["100.63.255.255", "100.128.0.0"]),
            ("loopback",          &["127.0.0.0", "127.0.0.1", "127.255.255.255"], &["126.255.255.255", "128.0.0.0"]),
            ("link-local",        &["169.254.0.0", "169.254.169.254", "169.254.255.255"], &["169.253.255.255", "169.255.0.0"]),
            ("private 172",       &["172.16.0.0", "172.31.255.255"],          &["172.15.255.255", "172.32.0.0"]),
            ("protocols",         &["192.0.0.0", "192.0.0.255"],              &["191.255.255.255", "192.0.1.0"]),
            ("documentation 1",   &["192.0.2.0", "192.0.2.255"],              &["192.0.1.255", "192.0.3.0"]),
            ("6to4 relays",       &["192.88.99.0", "192.88.99.255"],          &["192.88.98.255", "192.88.100.0"]),
            ("private 192",       &["192.168.0.0", "192.168.255.255"],        &["192.167.255.255", "192.169.0.0"]),
            ("benchmarks",        &["198.18.0.0", "198.19.255.255"],          &["198.17.255.255", "198.20.0.0"]),
            ("documentation 2",   &["198.51.100.0", "198.51.100.255"],        &["198.51.99.255", "198.51.101.0"]),
            ("documentation 3",   &["203.0.113.0", "203.0.113.255"],          &["203.0.112.255", "203.0.114.0"]),
            ("multicast",         &["224.0.0.0", "239.255.255.255"],          &["223.255.255.255"]),
            ("reserved",          &["240.0.0.0", "255.255.255.254", "255.255.255.255"], &[]),
            ("below public v6",   &["::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1",
                                    "64:ff9b::808:808", "64:ff9b:1::1", "100::1",
                                    "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], &["2000::"]),
            ("above public v6",   &["4000::", "5f00::1", "fc00::", "fd00:ec2::254", "fe80::1", "fe80::5efe:127.0.0.1",
                                    "fec0::1", "ff02::1"],                    &["3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]),
            ("v6 protocols",      &["2001::", "2001:0:7f00:1::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"],
                                                                              &["2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::"]),
            ("v6 documentation",  &["2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"],
                                                                              &["2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"]),
            ("6to4",              &["2002::", "2002:7f00:1::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
                                                                              &["2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::"]),
            ("v6 documentation 2", &["3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"],
                                                                              &["3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::"]),
        ];
        let policy = AddressPolicy::default();
        for (range, inside, outside) in cases {
            inside.iter().for_each(|ip| assert!(!allows(&policy, ip), "{range}: {ip} is inside"));
            outside.iter().for_each(|ip| assert!(allows(&policy, ip), "{range}: {ip} is outside"));
        }
    }

    #[test]
    fn the_operators_list_opens_what_it_names_and_nothing_else() {
        let lan = policy(&["10.1.0.0/16", "fd00::/8"]);
        #[rustfmt::skip]
        let cases = [
            ("10.1.2.3", true), ("10.2.0.1", false), ("fd00::5", true), ("fc00::5", false),
            ("127.0.0.1", false), ("::ffff:10.1.2.3", false), ("8.8.8.8", true),
        ];
        for (ip, expected) in cases {
            assert_eq!(allows(&lan, ip), expected, "{ip}");
        }
        let nat64 = policy(&["64:ff9b::/96"]);
        assert!(allows(&nat64, "64:ff9b::8.8.8.8"), "a public address behind NAT64");
        assert!(!allows(&nat64, "64:ff9b::127.0.0.1"), "judged by the address it stands for");
        #[rustfmt::skip]
        let cases = [
            // listed                 address                       allowed
            (&["64:ff9b:1::/48"][..], "64:ff9b:1::8.8.8.8",         true),
            (&["64:ff9b:1::/48"],     "64:ff9b:1::127.0.0.1",       false),
            (&["64:ff9b:1::/48"],     "64:ff9b:1::10.0.0.1",        false),
            (&["64:ff9b:1::/48"],     "64:ff9b:1:808:8:800::",      true),
            (&["64:ff9b:1::/48"],     "64:ff9b:1:7f00:0:100::",     false),
            (&["64:ff9b:1::/48"],     "64:ff9b:1:7f00:0:100:808:808", false),
            (&["64:ff9b:1::/48"],     "64:ff9b:1::",                false),
            (&["64:ff9b:1:5::/64"],   "64:ff9b:1:5:8:808:a00:0",    true),
            (&["64:ff9b:1:5::/64"],   "64:ff9b:1:5:7f:0:100:0",     false),
            (&["64:ff9b:1:5::/96"],   "64:ff9b:1:5::169.254.169.254", false),
            (&["64:ff9b:1::/48", "10.0.0.0/8"], "64:ff9b:1::10.0.0.1", true),
            (&["::/0", "64:ff9b:1::/48"], "64:ff9b:1:7f00:0:100:808:808", false),
            (&["::/0"],               "64:ff9b:1::127.0.0.1",       false),
        ];
        for (listed, ip, expected) in cases {
            assert_eq!(allows(&policy(listed), ip), expected, "{ip} by {listed:?}");
        }
    }

    #[test]
    fn urls_are_refused_before_anything_connects() {
        use AddressError::*;
        let long = format!("https://example.com/{}", "a".repeat(URL_BYTES_MAX));
        let long_label = format!("https://{}.example.com/", "a".repeat(64));
        #[rustfmt::skip]
        let cases = [
            ("too long",                      long.as_str(),                         TooLong),
            ("empty",                         "",                                    Scheme),
            ("no scheme",                     "example.com/hook",                    Scheme),
            ("plain http",                    "http://example.com/",                 Scheme),
            ("another scheme",                "ftp://example.com/",                  Scheme),
            ("file",                          "file:///etc/passwd",                  Spelling),
            ("gopher",                        "gopher://127.0.0.1:6379/_x",          Scheme),
            ("data",                          "data:text/html,x",                    Scheme),
            ("javascript",                    "javascript://example.com/%0aalert(1)", Scheme),
            ("no slashes",                    "https:127.0.0.1",                     Scheme),
            ("one slash",                     "https:/127.0.0.1",                    Scheme),
            ("three slashes",                 "https:///127.0.0.1/",                 Spelling),
            ("no host",                       "https://",                            Host),
            ("only a port",                   "https://:443/",                       Host),
            ("space",                         "https://example.com/a b",             Characters),
            ("leading space",                 " https://example.com/",               Characters),
            ("tab inside",                    "https://exam\tple.com/",              Characters),
            ("newline inside",                "https://127.0.0.1\n.example.com/",    Characters),
            ("carriage return",               "https://example.com/\r\nHost: x",     Characters),
            ("NUL",                           "https://example.com/\0",              Characters),
            ("backslash",                     "https://example.com\\@127.0.0.1/",    Characters),
            ("ideographic full stop",         "https://127。0。0。1/",               Characters),
            ("full-width digits",             "https://\u{ff11}\u{ff12}\u{ff17}.0.0.1/", Characters),
            ("circled digits",                "https://①②⑦.⓪.⓪.①/",               Characters),
            ("soft hyphen",                   "https://exa\u{ad}mple.com/",          Characters),
            ("not punycode",                  "https://bücher.example/",             Characters),
            ("user",                          "https://user@example.com/",           UserInfo),
            ("public user, private host",     "https://public@127.0.0.1/",           UserInfo),
            ("user and password",             "https://a:b@example.com/",            UserInfo),
            ("empty user",                    "https://@example.com/",               UserInfo),
            ("fragment",                      "https://example.com/#x",              Fragment),
            ("fragment hides the host",       "https://127.0.0.1#@public/",          Fragment),
            ("port 0",                        "https://example.com:0/",              Port),
            ("port too high",                 "https://example.com:65536/",          Port),
            ("no port after the colon",       "https://example.com:/",               Port),
            ("negative port",                 "https://example.com:-1/",             Port),
            ("hexadecimal port",              "https://example.com:0x50/",           Port),
            ("hexadecimal",                   "https://0x7f.1/",                     Spelling),
            ("hexadecimal whole",             "https://0x7f000001/",                 Spelling),
            ("one number",                    "https://2130706433/",                 Spelling),
            ("octal",                         "https://0177.0.0.1/",                 Spelling),
            ("two parts",                     "https://127.1/",                      Spelling),
            ("zero",                          "https://0/",                          Spelling),
            ("percent-encoded",               "https://%31%32%37.0.0.1/",            Spelling),
            ("percent-encoded dot",           "https://127%2e0.0.1/",                Spelling),
            ("trailing dot on an address",    "https://127.0.0.1./",                 Spelling),
            ("too many numbers",              "https://127.0.0.1.1/",                Host),
            ("numbers out of range",          "https://256.0.0.1/",                  Host),
            ("trailing dot",                  "https://example.com./",               Host),
            ("empty label",                   "https://a..example.com/",             Host),
            ("leading dot",                   "https://.example.com/",               Host),
            ("label too long",                &long_label,                           Host),
            ("unclosed bracket",              "https://[::1/",                       Host),
            ("text after the bracket",        "https://[2606:4700::1]a/",            Host),
            ("zone id",                       "https://[fe80::1%eth0]/",             Host),
            ("encoded zone id",               "https://[fe80::1%25eth0]/",           Host),
            ("IPv6 loopback",                 "https://[::1]/",                      NotPublic),
            ("IPv6 loopback, long",           "https://[0:0:0:0:0:0:0:1]/",          Spelling),
            ("IPv4 in IPv6, dotted",          "https://[::ffff:127.0.0.1]/",         Spelling),
            ("IPv4 in IPv6",                  "https://[::ffff:7f00:1]/",            NotPublic),
            ("IPv6 unspecified",              "https://[::]/",                       NotPublic),
            ("NAT64",                         "https://[64:ff9b::7f00:1]/",          NotPublic),
            ("6to4",                          "https://[2002:7f00:1::]/",            NotPublic),
            ("loopback",                      "https://127.0.0.1/",                  NotPublic),
            ("this host",                     "https://0.0.0.0/",                    NotPublic),
            ("metadata",                      "https://169.254.169.254/latest/",     NotPublic),
            ("private with port",             "https://10.0.0.1:8443/",              NotPublic),
            ("private, upper-case scheme",    "HTTPS://10.0.0.1/",                   NotPublic),
            ("single label",                  "https://intranet/",                   LocalName),
            ("localhost",                     "https://localhost/",                  LocalName),
            ("LOCALHOST",                     "https://LOCALHOST/",                  LocalName),
            ("localhost, trailing dot",       "https://localhost./",                 Host),
            ("under localhost",               "https://a.localhost/",                LocalName),
            ("under local",                   "https://printer.local/",              LocalName),
            ("under internal",                "https://metadata.google.internal/",   LocalName),
            ("under localdomain",             "https://db.localdomain/",             LocalName),
            ("home.arpa",                     "https://home.arpa/",                  LocalName),
            ("under home.arpa",               "https://nas.home.arpa/",              LocalName),
        ];
        for (why, url, expected) in cases {
            assert_eq!(AddressPolicy::default().check_url(url), Err(expected), "{why}");
        }
    }

    #[test]
    fn ordinary_urls_are_taken_as_they_are() {
        let strict = AddressPolicy::default();
        for url in [
            "https://example.com/hook",
            "https://Example.COM/Hook?token=a%20b&x=@y",
            "https://example.com:8443",
            "https://sub.domain.example.co.uk/a/b?c=d:e/f",
            "https://xn--bcher-kva.example/",
            "https://under_score.example.com/",
            "https://8.8.8.8/",
            "https://172.32.0.0:65535/",
            "https://[2606:4700::1111]/",
            "https://mylocal.example.com/localhost",
            "https://notlocalhost.com/",
        ] {
            assert!(strict.check_url(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn listed_loopback_lets_a_developer_through() {
        let dev = policy(&["127.0.0.0/8"]);
        for url in [
            "http://127.0.0.1:4000/hook",
            "http://localhost:4000/",
            "http://LocalHost/",
            "https://localhost/",
        ] {
            assert!(dev.check_url(url).is_ok(), "{url}");
        }
        for url in
            ["http://a.localhost/", "http://intranet/", "http://[::1]/", "http://10.0.0.1/", "http://127.1/"]
        {
            assert!(dev.check_url(url).is_err(), "{url}");
        }
        assert_eq!(dev.localhost().collect::<Vec<_>>(), [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        let https_only = AddressPolicy { allow_http: false, ..dev };
        assert_eq!(https_only.check_url("http://127.0.0.1/"), Err(AddressError::Scheme));
    }

    #[test]
    fn a_refusal_names_its_class_and_nothing_internal() {
        let refusal = AddressPolicy::default().check_url("https://10.1.2.3/").expect_err("private");
        assert_eq!(refusal.to_string(), "destination address is not allowed: it is not a public address");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_typed_gets_an_answer(text in "\\PC{0,80}") {
            let _ = AddressPolicy::default().check_url(&text);
            let _ = AddressPolicy::default().check_url(&format!("https://{text}"));
        }

        #[test]
        fn what_is_taken_is_public_or_a_name(a: u32, b: u128) {
            for host in [IpAddr::V4(a.into()).to_string(), format!("[{}]", Ipv6Addr::from(b))] {
                if let Ok(url) = AddressPolicy::default().check_url(&format!("https://{host}/")) {
                    let ip = host.trim_matches(['[', ']']).parse().expect("an address");
                    proptest::prop_assert!(AddressPolicy::default().allows(ip), "{url}");
                }
            }
        }
    }
}
