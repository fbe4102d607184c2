//! A browser, as far as a consent needs one.

use super::{Answer, http_client};
use serde_json::Value;
use url::Url;

/// Somebody's browser: it keeps cookies, and goes where it is sent.
#[derive(Default)]
pub struct Browser {
    pub cookies: Vec<(String, String)>,
    /// Where it was, oldest first.
    pub visited: Vec<String>,
}

impl Browser {
    pub async fn get(&mut self, url: &str) -> Answer {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.visited.push(url.to_owned());
        let request = http_client().get(url);
        let request = if cookies.is_empty() { request } else { request.header("cookie", cookies.join("; ")) };
        let response = request.send().await.expect("it answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("text");
        let answer = Answer { status, headers, body: Value::Null, text };
        for set in answer.headers.get_all("set-cookie") {
            let (pair, rest) = set.to_str().expect("text").split_once(';').expect("attributes");
            let (name, value) = pair.split_once('=').expect("a pair");
            self.cookies.retain(|(kept, _)| kept != name);
            if !rest.contains("Max-Age=0") {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        answer
    }

    /// Goes where it is sent, until it is shown something.
    pub async fn follow(&mut self, url: &str) -> Answer {
        let mut answer = self.get(url).await;
        while let Some(next) = location(&answer) {
            answer = self.get(&next).await;
        }
        answer
    }

    /// Goes to the vendor's page, and stays at the address that this sends it back to.
    pub async fn up_to_callback(&mut self, url: &str) -> String {
        let at_vendor = location(&self.get(url).await).expect("it is sent to the vendor");
        location(&self.get(&at_vendor).await).expect("it is sent back")
    }
}

/// Where it is sent on to.
pub fn location(answer: &Answer) -> Option<String> {
    (answer.status == 302).then(|| answer.header("location").expect("a location").to_owned())
}

/// A parameter of an address.
pub fn parameter(url: &str, name: &str) -> Option<String> {
    let url = Url::parse(url).expect("a URL");
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

impl Answer {
    /// It is a page of this status for a window of its own, and says this.
    #[track_caller]
    pub fn page(&self, status: u16, says: &str, why: &str) {
        assert_eq!(self.status, status, "{why}: {}", self.text);
        assert_eq!(self.header("content-type"), Some("text/html; charset=utf-8"), "{why}");
        assert!(self.text.contains(says), "{why}: {says:?} is not in {}", self.text);
        assert!(self.header("x-request-id").is_some(), "{why}");
        self.is_for_a_window(why);
    }

    #[track_caller]
    pub fn is_for_a_window(&self, why: &str) {
        let policy = self.header("content-security-policy").unwrap_or_default();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{why}");
        assert!(!policy.contains("unsafe"), "{why}: {policy}");
        assert_eq!(self.header("referrer-policy"), Some("no-referrer"), "{why}");
        assert_eq!(self.header("cache-control"), Some("no-store"), "{why}");
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "{why}");
        assert!(!self.text.contains("<script"), "{why}");
    }
}
