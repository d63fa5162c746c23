//! The variables by which agents' runtimes find a proxy and whom to trust.

/// Variables by which clients find a proxy; most read one case, some the other.
const PROXIES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
/// What is reached without one.
const DIRECT: &str = "NO_PROXY";
/// Node reads the variables above only if told; git presents no password until it is asked.
const SWITCHES: [(&str, &str); 2] = [
    ("NODE_USE_ENV_PROXY", "1"),
    ("GIT_HTTP_PROXY_AUTHMETHOD", "basic"),
];
/// Variables that name a file with every authority to trust.
pub const BUNDLES: [&str; 9] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "NPM_CONFIG_CAFILE",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
];
/// Variables that name a file with authorities to trust beside the runtime's own.
pub const ADDED: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];
/// Where the base URLs are.
pub const BASE: &str = "OUTRIDER_URL";

/// The variables that send a runtime through a proxy, but for what is `direct`.
pub fn proxied(proxy: &str, direct: &str) -> Vec<(String, String)> {
    let proxies = PROXIES.map(|name| (name, proxy));
    let both = proxies.into_iter().chain([(DIRECT, direct)]);
    let both = both.flat_map(|(name, value)| {
        [name.to_owned(), name.to_ascii_lowercase()].map(|name| (name, value.to_owned()))
    });
    let switches = SWITCHES.map(|(name, value)| (name.to_owned(), value.to_owned()));
    both.chain(switches).collect()
}

/// Whether a variable decides how a runtime reaches others, or whom it trusts.
pub fn decides(variable: &str) -> bool {
    let upper = variable.to_ascii_uppercase();
    PROXIES.contains(&&*upper)
        || upper == DIRECT
        || variable == BASE
        || SWITCHES.iter().any(|(name, _)| *name == variable)
        || BUNDLES.contains(&variable)
        || ADDED.contains(&variable)
}
