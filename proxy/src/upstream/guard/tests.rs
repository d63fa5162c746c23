use proptest::prelude::*;

use super::*;

fn guard(allowed: &[&str]) -> Guard {
    let allowed = allowed.iter().map(|text| text.parse().unwrap()).collect();
    Guard::new(allowed, vec!["10.1.2.3:15001".parse().unwrap()])
}

fn admits(guard: &Guard, ip: &str) -> bool {
    guard.admits(SocketAddr::new(ip.parse().unwrap(), 443))
}

/// Addresses that are not public, spelled as resolvers give them.
const FORBIDDEN: &[&str] = &[
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.254",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::2",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:169.254.169.254",
    "::ffff:0:8.8.8.8",
    "::127.0.0.1",
    "::8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "64:ff9b:1:ffff::a00:1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "8000::1",
    "fc00::1",
    "fd00:ec2::254",
    "fdff:ffff::1",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
];

#[test]
fn what_is_not_public_is_not_dialled() {
    let guard = guard(&[]);
    for ip in FORBIDDEN {
        assert!(!admits(&guard, ip), "{ip}");
    }
    for ip in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2001:4860:4860::8888",
        "2606:4700:4700::1111",
        "2a00:1450:4001:80b::200e",
    ] {
        assert!(admits(&guard, ip), "{ip}");
    }
}

#[test]
fn what_is_allowed_is_dialled_in_its_own_spelling_only() {
    let guard = guard(&[
        "10.0.0.0/8",
        "127.0.0.1",
        "fd00::/8",
        "::1",
        "::ffff:0:0/96",
    ]);
    for ip in ["10.1.2.3", "127.0.0.1", "fd00::1", "::1"] {
        assert!(admits(&guard, ip), "{ip}");
    }
    for ip in [
        "127.0.0.2",
        "::ffff:10.1.2.3",
        "64:ff9b::a01:203",
        "2002:a01:203::1",
        "0.0.0.0",
    ] {
        assert!(!admits(&guard, ip), "{ip}");
    }
    // We listen there ourselves.
    assert!(!guard.admits("10.1.2.3:15001".parse().unwrap()));
}

#[test]
fn where_every_address_is_listened_on_each_is_ours() {
    let everywhere = vec!["0.0.0.0:15001".parse().unwrap()];
    let guard = Guard::new(vec!["127.0.0.0/8".parse().unwrap()], everywhere);
    assert!(!guard.admits("127.0.0.1:15001".parse().unwrap()));
    assert!(guard.admits("127.0.0.1:15002".parse().unwrap()));
}

#[test]
fn a_host_is_read_in_one_spelling() {
    for host in [
        "example.org",
        "EXAMPLE.org",
        "a-b.example.org",
        "_srv.example.org",
        "xn--bcher-kva.example",
        "8.8.8.8",
        "[2606:4700::1]",
        "1.2.3.4.example.org",
    ] {
        assert!(Destination::read(host, 443).is_ok(), "{host}");
    }
    for host in [
        "",
        ".",
        "example.org.",
        ".example.org",
        "example..org",
        "-a.example.org",
        "a-.example.org",
        "localhost",
        "LOCALHOST",
        "a.localhost",
        "localhost.localdomain",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "127.0.0.01",
        "127.0.0.1.",
        "1.2.3.4.5",
        "example.0x7f",
        "256.1.1.1",
        "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
        "\u{2460}27.0.0.1",
        "ex\u{430}mple.org",
        "%31%32%37.0.0.1",
        "a b",
        "a/b",
        "user@example.org",
        "::1",
        "[::1",
        "[fe80::1%eth0]",
        "[fe80::1%25eth0]",
        "[127.0.0.1]",
        "[::1]x",
        "a\0b",
    ] {
        assert_eq!(
            Destination::read(host, 443),
            Err(BadDestination),
            "{host:?}"
        );
    }
    assert_eq!(Destination::read("example.org", 0), Err(BadDestination));
    assert_eq!(
        Destination::read(&"a.".repeat(126).replace("..", "."), 443),
        Err(BadDestination)
    );
}

#[test]
fn a_range_is_read_or_refused() {
    for (text, inside, outside) in [
        ("10.0.0.0/8", "10.9.9.9", "11.0.0.0"),
        ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
        ("0.0.0.0/0", "8.8.8.8", "::1"),
        ("fd00::/8", "fd12::1", "fc00::1"),
        ("::/0", "2606::1", "8.8.8.8"),
    ] {
        let network: Network = text.parse().unwrap();
        assert!(network.contains(inside.parse().unwrap()), "{text}");
        assert!(!network.contains(outside.parse().unwrap()), "{text}");
    }
    for bad in [
        "",
        "/8",
        "10.0.0.0/33",
        "fd00::/129",
        "10.0.0/8",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "x",
    ] {
        assert_eq!(bad.parse::<Network>(), Err(BadNetwork), "{bad}");
    }
}

proptest! {
    /// However an IPv4 address that may not be dialled is wrapped, it is not dialled.
    #[test]
    fn no_other_spelling_of_a_forbidden_address_passes(low in any::<u32>(), form in 0..6_usize, site in any::<u16>()) {
        let v4 = Ipv4Addr::from_bits(low);
        let [.., a, b] = v4.to_ipv6_mapped().segments();
        let wrapped = [
            Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, a, b),
            Ipv6Addr::new(0, 0, 0, 0, 0, 0, a, b),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b),
            Ipv6Addr::new(0x64, 0xff9b, 1, site, 0, 0, a, b),
            Ipv6Addr::new(0x2002, a, b, site, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, a, b, 0, 0, !a, !b),
        ];
        let guard = Guard::new(vec![Network { base: v4.into(), bits: 32 }], Vec::new());
        prop_assert!(!guard.admits(SocketAddr::new(wrapped[form].into(), 443)));
    }
}
