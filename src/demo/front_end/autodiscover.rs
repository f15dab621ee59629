//! The documents of Autodiscover, as a Front End's External Web serves them.
//!
//! Pure: from names to text. Must not know connections. Invariant: every external link points to the external web FQDN.
//! Sources: [MS-OCDISCWS] and the UCWA pages "Root URL" and "user".

use std::fmt::Write as _;

use serde_json::json;

use super::DeploymentNames;

/// The path of the root resource, as spelled in links.
const ROOT: &str = "/Autodiscover/AutodiscoverService.svc/root";
/// Link tokens of the XML form and their paths.
const SERVICES: [(&str, &str); 6] = [
    ("Autodiscover", ROOT),
    ("AuthBroker", "/Reach/sip.svc"),
    ("WebScheduler", "/Scheduler"),
    ("Mcx", "/Mcx/McxService.svc"),
    ("Ucwa", "/ucwa/v1/applications"),
    ("XFrame", "/Autodiscover/XFrame/XFrame.html"),
];

/// The form of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Xml,
}

impl Form {
    /// JSON, unless the client explicitly accepts XML.
    pub(super) fn accepted_by(accept: &str) -> Self {
        let accept = accept.trim_start();
        let xml = accept.contains("autodiscover+xml")
            || ["application/xml", "text/xml"]
                .iter()
                .any(|t| accept.starts_with(t));
        if xml { Self::Xml } else { Self::Json }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json; charset=utf-8",
            Self::Xml => "application/vnd.microsoft.rtc.autodiscover+xml; v=1; charset=utf-8",
        }
    }
}

/// The SIP domain of a request: from its SIP URI, else from its Host.
pub(super) fn original_domain(sip_uri: Option<&str>, host: Option<&str>) -> Option<String> {
    let of_uri = sip_uri
        .and_then(|uri| uri.rsplit_once('@').or_else(|| uri.rsplit_once("%40")))
        .map(|(_, domain)| domain);
    let of_host = || {
        let host = host?.split(':').next()?;
        host.strip_prefix("lyncdiscover.")
            .or_else(|| host.strip_prefix("lyncdiscoverinternal."))
    };
    let domain = of_uri.or_else(of_host)?;
    let plain = domain
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-');
    (plain && !domain.is_empty() && domain.len() <= 253).then(|| domain.to_ascii_lowercase())
}

/// The root document over HTTPS.
pub(super) fn root(
    names: &DeploymentNames,
    fqdn: &str,
    domain: Option<&str>,
    form: Form,
) -> String {
    let root = external(names, ROOT);
    let query = domain
        .map(|domain| format!("?originalDomain={domain}"))
        .unwrap_or_default();
    let user = format!("{root}/oauth/user{query}");
    match form {
        Form::Json => json!({ "_links": {
            "self": { "href": format!("{root}{query}") },
            "user": { "href": user },
            "xframe": { "href": external(names, "/Autodiscover/XFrame/XFrame.html") },
        }})
        .to_string(),
        Form::Xml => {
            let mut links = link("Self", &format!("{root}{query}"))
                + &link("User", &format!("{root}/user{query}"));
            links += &link("OAuth", &user);
            document(&format!("<Root>{links}{}</Root>", services(names, fqdn)))
        }
    }
}

/// The root document over plain HTTP: a redirect link.
pub(super) fn redirect(names: &DeploymentNames, domain: Option<&str>, form: Form) -> String {
    let query = domain
        .map(|domain| format!("?originalDomain={domain}"))
        .unwrap_or_default();
    let target = external(names, ROOT) + &query;
    match form {
        Form::Json => json!({ "_links": { "redirect": { "href": target } } }).to_string(),
        Form::Xml => document(&format!("<Root>{}</Root>", link("Redirect", &target))),
    }
}

/// The document for an authenticated client: the services of its home pool.
pub(super) fn user(names: &DeploymentNames, fqdn: &str, form: Form) -> String {
    match form {
        Form::Json => json!({ "_links": {
            "self": { "href": external(names, ROOT) + "/oauth/user" },
            "applications": { "href": external(names, "/ucwa/oauth/v1/applications") },
            "xframe": { "href": external(names, "/Autodiscover/XFrame/XFrame.html") },
        }})
        .to_string(),
        Form::Xml => document(&format!("<User>{}</User>", services(names, fqdn))),
    }
}

/// The authentication challenge of the user resource.
pub(super) fn challenge(names: &DeploymentNames) -> String {
    let tickets = external(names, "/WebTicket/oauthtoken");
    format!(
        "Bearer trusted_issuers=\"\", client_id=\"00000004-0000-0ff1-ce00-000000000000\", MsRtcOAuth href=\"{tickets}\",\
         grant_type=\"urn:microsoft.rtc:windows,urn:microsoft.rtc:anonmeeting,password\""
    )
}

/// The internal and external link of every service.
fn services(names: &DeploymentNames, fqdn: &str) -> String {
    SERVICES.iter().fold(String::new(), |links, (token, path)| {
        let inside = link(
            &format!("Internal/{token}"),
            &format!("https://{fqdn}{path}"),
        );
        links + &inside + &link(&format!("External/{token}"), &external(names, path))
    })
}

fn external(names: &DeploymentNames, path: &str) -> String {
    match names.external_https_port {
        443 => format!("https://{}{path}", names.external_web_fqdn),
        port => format!("https://{}:{port}{path}", names.external_web_fqdn),
    }
}

fn document(content: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
         <AutodiscoverResponse xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" AccessLocation=\"External\">{content}</AutodiscoverResponse>"
    )
}

fn link(token: &str, href: &str) -> String {
    format!("<Link token=\"{token}\" href=\"{}\"/>", escape(href))
}

/// For XML and HTML, in text and in attributes (XML 1.0, section 2.4).
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '<' | '>' | '&' | '"' | '\'') {
            // Writing to a string cannot fail.
            let _infallible = write!(escaped, "&#{};", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_domain_comes_from_the_sip_uri_first() {
        let host = Some("lyncdiscover.fabrikam.com:8443");
        assert_eq!(
            original_domain(Some("sip:user@Contoso.com"), host).as_deref(),
            Some("contoso.com")
        );
        assert_eq!(
            original_domain(Some("user%40contoso.com"), host).as_deref(),
            Some("contoso.com")
        );
        assert_eq!(original_domain(None, host).as_deref(), Some("fabrikam.com"));
        assert_eq!(original_domain(None, Some("lyncweb.contoso.com")), None);
    }

    #[test]
    fn an_original_domain_that_is_not_a_host_name_is_ignored() {
        assert_eq!(original_domain(Some("user@a\"><b"), None), None);
        assert_eq!(original_domain(Some("user@"), None), None);
        assert_eq!(
            original_domain(Some(&format!("user@{}", "a".repeat(254))), None),
            None
        );
    }

    #[test]
    fn the_form_follows_the_accept_header() {
        assert_eq!(Form::accepted_by(""), Form::Json);
        assert_eq!(Form::accepted_by("application/json"), Form::Json);
        assert_eq!(
            Form::accepted_by("application/vnd.microsoft.rtc.autodiscover+xml;v=1"),
            Form::Xml
        );
        assert_eq!(
            Form::accepted_by("text/html,application/xml;q=0.9"),
            Form::Json
        );
    }

    #[test]
    fn markup_in_text_is_escaped() {
        assert_eq!(escape("a<b&\"c\""), "a&#60;b&#38;&#34;c&#34;");
    }
}
