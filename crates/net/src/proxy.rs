use std::{fmt, sync::Arc};

use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use url::{Host, Url};

use crate::loopback::is_loopback;

/// An address that is not one of an HTTP proxy. Holds no part of the address but its scheme.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// A proxy of another kind.
    #[error("is a {0} proxy, which is not supported")]
    Scheme(String),
    /// No address.
    #[error("is not the address of a proxy")]
    Malformed,
}

/// The address of an HTTP proxy. May contain a password, so it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(Url);

impl ProxyUrl {
    /// Parses `http://host:port`, `https://…`, `host:port`, each with or without `user:password@`.
    ///
    /// # Errors
    /// Fails for another kind of proxy, and for what is no address.
    pub fn parse(text: &str) -> Result<Self, ProxyUrlError> {
        let text = text.trim();
        let (url, authority) = match text.split_once("://") {
            Some((scheme, rest))
                if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) =>
            {
                (Url::parse(text), rest)
            }
            Some((scheme, _)) if is_scheme(scheme) => {
                return Err(ProxyUrlError::Scheme(scheme.to_ascii_lowercase()));
            }
            Some(_) => return Err(ProxyUrlError::Malformed),
            None => (Url::parse(&format!("http://{text}")), text),
        };
        let proxy = Self(url.map_err(|_| ProxyUrlError::Malformed)?);
        if !is_only_a_host(authority, &proxy.0) {
            return Err(ProxyUrlError::Malformed);
        }
        // The matcher has a parser of its own.
        let any = http::Uri::from_static("http://host.invalid/");
        let understood = Matcher::builder().http(proxy.0.as_str()).build().intercept(&any).is_some();
        if understood { Ok(proxy) } else { Err(ProxyUrlError::Malformed) }
    }
}

/// Returns whether the text after the scheme is a host as people write it, with or without a port and credentials. The parser of
/// addresses takes more: it skips slashes before the host, reads a lone number as an address, and translates digits of other
/// scripts.
fn is_only_a_host(text: &str, url: &Url) -> bool {
    if text.starts_with(['/', '\\']) || url.path() != "/" || url.query().is_some() || url.fragment().is_some()
    {
        return false;
    }
    match url.host() {
        Some(Host::Domain(name)) => name.strip_suffix('.').unwrap_or(name).split('.').all(is_label),
        Some(Host::Ipv4(address)) => {
            let host = text.rsplit('@').next().unwrap_or(text).trim_end_matches('/');
            host.split(':').next() == Some(address.to_string().as_str())
        }
        Some(Host::Ipv6(_)) => true,
        None => false,
    }
}

/// Returns whether the text is one part of the name of a host. Names in other scripts come translated (`xn--…`).
fn is_label(text: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_scheme(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyUrl(..)")
    }
}

/// Which requests go through which proxy. None go to this machine through one. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Proxies(Option<Arc<Rules>>);

#[derive(Debug)]
struct Rules {
    http: Option<ProxyUrl>,
    https: Option<ProxyUrl>,
    matcher: Matcher,
}

impl Proxies {
    /// Makes the rules: a proxy for `http` and `ws`, one for `https` and `wss`, and the hosts that go through none in the
    /// form of `NO_PROXY`: names with everything below them, addresses, networks, or `*`, separated by commas.
    #[must_use]
    pub fn new(http: Option<ProxyUrl>, https: Option<ProxyUrl>, no_proxy: &str) -> Self {
        if http.is_none() && https.is_none() {
            return Self::default();
        }
        let text =
            |proxy: &Option<ProxyUrl>| proxy.as_ref().map_or_else(String::new, |proxy| proxy.0.to_string());
        let matcher =
            Matcher::builder().http(text(&http)).https(text(&https)).no(no_proxy.to_owned()).build();
        Self(Some(Arc::new(Rules { http, https, matcher })))
    }

    /// Returns the proxy for an address, with its credentials, for a client that reads them from the address.
    pub(crate) fn url_for(&self, url: &Url) -> Option<Url> {
        self.intercept(url)?;
        let rules = self.0.as_ref()?;
        let proxy = if is_secure(url) { &rules.https } else { &rules.http };
        proxy.as_ref().map(|proxy| proxy.0.clone())
    }

    /// Returns the proxy for an address.
    pub(crate) fn intercept(&self, url: &Url) -> Option<Intercept> {
        let rules = self.0.as_ref()?;
        if is_loopback(url) {
            return None;
        }
        let scheme = if is_secure(url) { "https" } else { "http" };
        let target = format!("{scheme}://{}/", url.host_str()?).parse().ok()?;
        rules.matcher.intercept(&target)
    }
}

fn is_secure(url: &Url) -> bool {
    matches!(url.scheme(), "https" | "wss")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(no_proxy: &str) -> Proxies {
        let proxy = |text| Some(ProxyUrl::parse(text).unwrap());
        Proxies::new(proxy("plain.example:8080"), proxy("http://me:s3cret@secure.example:3128"), no_proxy)
    }

    fn host_for(proxies: &Proxies, url: &str) -> Option<String> {
        let url = url.parse().unwrap();
        let found = proxies.intercept(&url).map(|proxy| proxy.uri().host().unwrap().to_owned());
        assert_eq!(found, proxies.url_for(&url).and_then(|url| url.host_str().map(ToOwned::to_owned)));
        found
    }

    #[test]
    fn parse_of_what_is_no_http_proxy_names_the_kind_only() {
        for (text, problem) in [
            ("socks5://me:s3cret@host:1080", ProxyUrlError::Scheme("socks5".into())),
            ("SOCKS5H://host", ProxyUrlError::Scheme("socks5h".into())),
            ("ftp://host", ProxyUrlError::Scheme("ftp".into())),
            ("http://", ProxyUrlError::Malformed),
            ("", ProxyUrlError::Malformed),
            ("not a proxy", ProxyUrlError::Malformed),
            ("http://host:port", ProxyUrlError::Malformed),
            ("me s3cret://host", ProxyUrlError::Malformed),
            ("/nonexistent", ProxyUrlError::Malformed),
            ("http:///nonexistent", ProxyUrlError::Malformed),
            ("\\\\server", ProxyUrlError::Malformed),
            ("./proxy", ProxyUrlError::Malformed),
            ("host/path", ProxyUrlError::Malformed),
            ("http://host?x", ProxyUrlError::Malformed),
            ("-1", ProxyUrlError::Malformed),
            ("10", ProxyUrlError::Malformed),
            ("１０", ProxyUrlError::Malformed),
            ("http://0x7f.1:3128", ProxyUrlError::Malformed),
        ] {
            assert_eq!(ProxyUrl::parse(text), Err(problem), "{text}");
        }
        for text in [
            "http://host",
            "HTTPS://host:1",
            "host",
            "host:3128",
            "me:p%40ss@host:3128",
            "http://[::1]:3128/",
            " host ",
            "10.0.0.1",
            "http://me:p@10.0.0.1:3128/",
            "my_proxy-1.corp.example.:3128",
            "http://b\u{fc}cher.example",
        ] {
            assert!(ProxyUrl::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn intercept_by_scheme_with_no_proxy_and_never_for_this_machine() {
        let proxies = proxies("direct.example, .corp.example,10.0.0.0/8");
        for (url, proxy) in [
            ("https://open.feishu.cn/x", Some("secure.example")),
            ("wss://msg-frontier.feishu.cn/ws/v2?a=b", Some("secure.example")),
            ("http://open.feishu.cn/", Some("plain.example")),
            ("ws://open.feishu.cn/", Some("plain.example")),
            ("https://direct.example/", None),
            ("wss://a.direct.example/", None),
            ("https://bot.corp.example:8443/", None),
            ("https://10.1.2.3/", None),
            ("https://11.1.2.3/", Some("secure.example")),
            ("https://localhost/", None),
            ("wss://127.0.0.1:9/", None),
            ("http://[::1]:9/", None),
        ] {
            assert_eq!(host_for(&proxies, url).as_deref(), proxy, "{url}");
        }
        assert_eq!(host_for(&self::proxies("*"), "https://open.feishu.cn/"), None);
        assert_eq!(host_for(&Proxies::default(), "https://open.feishu.cn/"), None);
        let only_http = Proxies::new(ProxyUrl::parse("p:1").ok(), None, "");
        assert_eq!(host_for(&only_http, "https://open.feishu.cn/"), None);
    }

    #[test]
    fn debug_hides_the_password() {
        assert!(!format!("{:?}", proxies("")).contains("s3cret"));
    }
}
