//! Calls to one account, for the length of an attempt or a question.

use super::{Account, Answer, Entry, Kept, Reads, Stop, Verdict, answer::Over};
use crate::{
    destinations::{
        answer as reports, limits::Pace, outgoing::Outgoing, planned::PlannedRequest, setup::TokenError,
    },
    domain::{
        delivery::{Outcome, Report},
        ids::DeliveryId,
        secret::Secret,
        timestamp::Timestamp,
    },
    transport::{
        Http, Keep, Request, Response, SendError,
        redact::{REDACTED, Redactor},
        retry_after,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use parking_lot::Mutex;
use reqwest::{
    Method, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT},
};
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::time::Instant;

/// How long a call waits for its place in a budget before its delivery makes room for others.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// The pause before a call that is safe to repeat is repeated.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Where calls go.
pub(super) enum Wire<'a> {
    Live(&'a Http),
    /// Nowhere: the first is written down.
    Rehearsed(&'a Mutex<Rehearsal>),
}

/// What of an action was seen before anything was answered.
#[derive(Default)]
pub(super) struct Rehearsal {
    pub first: Option<PlannedRequest>,
    /// Another call was asked for, or what the first one answers is needed.
    pub goes_on: bool,
}

pub(super) struct Args<'a> {
    pub wire: Wire<'a>,
    pub account: &'a Account,
    pub redactor: &'a Redactor,
    pub settings: &'a Map<String, Value>,
    pub setup: &'a Kept,
    pub service: &'a dyn Reads,
    pub kind: &'static str,
    /// None for a question that is no delivery.
    pub out: Option<&'a Outgoing<'a>>,
    pub now: Timestamp,
    pub until: Instant,
}

/// Calls to one account.
pub struct Api<'a> {
    pub(super) args: Args<'a>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Results of calls that must not be made twice.
    kept: Map<String, Value>,
    calls: u32,
    last_status: Option<u16>,
}

impl<'a> Api<'a> {
    pub(super) fn new(args: Args<'a>) -> Self {
        let notes = args.out.and_then(|out| out.notes);
        let kept = notes.and_then(|notes| serde_json::from_str(notes).ok()).unwrap_or_default();
        Self { args, state: Mutex::new(State { kept, ..State::default() }) }
    }

    /// What paths are put behind.
    pub fn base(&self) -> &str {
        &self.args.account.base
    }

    /// A setting that is no secret, and not empty.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.args.settings.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    pub fn get(&self, path: impl AsRef<str>) -> Call<'_, 'a> {
        self.call(Method::GET, path.as_ref())
    }

    pub fn post(&self, path: impl AsRef<str>) -> Call<'_, 'a> {
        self.call(Method::POST, path.as_ref())
    }

    pub fn put(&self, path: impl AsRef<str>) -> Call<'_, 'a> {
        self.call(Method::PUT, path.as_ref())
    }

    pub fn patch(&self, path: impl AsRef<str>) -> Call<'_, 'a> {
        self.call(Method::PATCH, path.as_ref())
    }

    pub fn delete(&self, path: impl AsRef<str>) -> Call<'_, 'a> {
        self.call(Method::DELETE, path.as_ref())
    }

    /// A call to a path below the account's base, or to a whole URL.
    fn call(&self, method: Method, path: &str) -> Call<'_, 'a> {
        let url = match path.contains("://") {
            true => self.args.setup.operator.at(path),
            false => format!("{}{path}", self.args.setup.operator.at(&self.args.account.base)),
        };
        Call {
            api: self,
            method,
            url,
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            fine: &[],
            part: None,
            is_repeatable: true,
            is_question: false,
            takes: 1,
            word: "Bearer",
        }
    }

    /// The same in every attempt, and for no other delivery: what the service recognises a repetition by.
    pub fn token(&self) -> String {
        self.args.out.map(|out| out.delivery_id.to_string()).unwrap_or_default()
    }

    /// Keeps the result of a call that must not be made twice, for the next attempt.
    pub fn keep(&self, step: &str, result: impl Into<Value>) {
        self.state.lock().kept.insert(step.to_owned(), result.into());
    }

    /// What an earlier attempt kept.
    pub fn kept(&self, step: &str) -> Option<Value> {
        self.state.lock().kept.get(step).cloned()
    }

    /// All that is kept, for the next attempt.
    pub(super) fn notes(&self) -> Option<String> {
        let kept = &self.state.lock().kept;
        (!kept.is_empty()).then(|| Value::Object(kept.clone()).to_string())
    }

    pub(super) fn delivered(&self, message: String) -> Report {
        Report { http_status: self.state.lock().last_status, ..reports::failed(Outcome::Delivered, message) }
    }

    pub(super) fn left(&self) -> Duration {
        self.args.until.saturating_duration_since(Instant::now())
    }

    /// Whose place in a budget it is; a question that is no delivery has none of its own.
    fn who(&self) -> DeliveryId {
        self.args.out.map_or(DeliveryId::from_bytes([0; 16]), |out| out.delivery_id)
    }

    async fn charge(&self, budget: &str, pace: Pace) -> Result<(), Stop> {
        while let Err(wait) = self.args.setup.limits.take(budget, pace, self.who()) {
            if wait > WAIT_MAX || wait >= self.left() {
                let message =
                    "held back: the account's rate limit is used up; it goes on by itself".to_owned();
                let report = reports::failed(Outcome::RateLimited, message);
                return Err(Stop(Box::new(Report { retry_after: Some(wait), pauses: false, ..report })));
            }
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    pub(super) fn account_budget(&self) -> String {
        format!("{}/{}", self.args.kind, self.args.account.name)
    }
}

/// One call, being put together.
#[must_use = "nothing is sent before `send`"]
pub struct Call<'c, 'a> {
    api: &'c Api<'a>,
    method: Method,
    url: String,
    query: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    fine: &'static [u16],
    part: Option<(String, Pace)>,
    is_repeatable: bool,
    is_question: bool,
    takes: u32,
    word: &'static str,
}

impl Call<'_, '_> {
    pub fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into();
        self.header("content-type", "application/json")
    }

    pub fn form(mut self, fields: &[(&str, &str)]) -> Self {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.body = body.into();
        self.header("content-type", "application/x-www-form-urlencoded")
    }

    /// These statuses are no failure either: the caller looks at them.
    pub const fn fine(mut self, statuses: &'static [u16]) -> Self {
        self.fine = statuses;
        self
    }

    /// It has a narrower budget beside the account's, such as that of a channel.
    pub fn part(mut self, name: impl Into<String>, pace: Pace) -> Self {
        self.part = Some((name.into(), pace));
        self
    }

    /// It costs so much of the account's budget.
    pub const fn takes(mut self, calls: u32) -> Self {
        self.takes = calls;
        self
    }

    /// The word before a consent's token, where it is not `Bearer`.
    pub const fn word(mut self, word: &'static str) -> Self {
        self.word = word;
        self
    }

    /// Made twice it does something twice: an answer that got lost is told as such.
    pub const fn once(mut self) -> Self {
        self.is_repeatable = false;
        self
    }

    /// It changes nothing, although it is no GET.
    pub const fn question(mut self) -> Self {
        self.is_question = true;
        self
    }

    /// Sends it, and answers what is fine.
    pub async fn send(self) -> Result<Answer, Stop> {
        match self.api.args.wire {
            Wire::Live(http) => self.send_live(http).await,
            Wire::Rehearsed(rehearsal) => self.rehearse(&mut rehearsal.lock()),
        }
    }

    /// Writes the first call down, and answers nothing to what only says something.
    fn rehearse(&self, rehearsal: &mut Rehearsal) -> Result<Answer, Stop> {
        let is_consent = matches!(self.api.args.account.entry, Entry::Consent(_));
        let token = is_consent.then(|| Secret::new(REDACTED));
        let (url, headers) = (self.url()?, self.header_map(token.as_ref())?);
        let redactor = self.api.args.redactor;
        let shown = || PlannedRequest::new(&self.method, &url, &headers, &self.body, redactor);
        let is_first = rehearsal.first.is_none();
        rehearsal.first.get_or_insert_with(shown);
        if is_first && !self.is_question && self.method != Method::GET {
            return Ok(Answer {
                status: 200,
                headers: HeaderMap::new(),
                json: Value::Null,
                body: Vec::new(),
                truncated: false,
                at: None,
            });
        }
        rehearsal.goes_on = true;
        Err(Stop::odd("what comes next depends on the answer"))
    }

    async fn send_live(&self, http: &Http) -> Result<Answer, Stop> {
        let is_first = {
            let mut state = self.api.state.lock();
            state.calls += 1;
            state.calls == 1
        };
        let answered = self.send_authorised(http).await;
        // Those before it would all be made again.
        let again = self.is_repeatable
            && !is_first
            && self.api.left() > AGAIN_AFTER * 2
            && matches!(&answered, Err(stop) if is_passing(&stop.0));
        if !again {
            return answered;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
        self.send_authorised(http).await
    }

    /// With a token of today; one that is not taken is renewed once.
    async fn send_authorised(&self, http: &Http) -> Result<Answer, Stop> {
        let Entry::Consent(tokens) = &self.api.args.account.entry else {
            return self.judge(self.exchange(http, None).await?, None);
        };
        let token = tokens.access().await.map_err(no_token)?;
        let answer = self.exchange(http, Some(&token)).await?;
        if self.api.args.service.verdict(&answer) != Verdict::Expired || self.is_fine(&answer) {
            return self.judge(answer, Some(&token));
        }
        let token = tokens.instead_of(&token).await.map_err(no_token)?;
        let answer = self.exchange(http, Some(&token)).await?;
        self.judge(answer, Some(&token))
    }

    fn is_fine(&self, answer: &Answer) -> bool {
        self.fine.contains(&answer.status)
    }

    async fn exchange(&self, http: &Http, token: Option<&Secret>) -> Result<Answer, Stop> {
        let Args { account, setup, .. } = &self.api.args;
        let budget = self.api.account_budget();
        for _ in 0..self.takes {
            self.api.charge(&budget, account.pace).await?;
        }
        if let Some((part, pace)) = &self.part {
            self.api.charge(&format!("{budget}/{part}"), *pace).await?;
        }
        let (budget, pace) = match &self.part {
            Some((part, pace)) => (format!("{budget}/{part}"), *pace),
            None => (budget, account.pace),
        };
        let slot = tokio::time::timeout(self.api.left(), setup.limits.slot(&budget, pace)).await;
        let Ok(_slot) = slot else { return Err(self.failed(&SendError::Timeout(self.api.left()))) };
        let request = Request {
            method: self.method.clone(),
            url: &self.url()?,
            headers: self.header_map(token)?,
            body: self.body.clone(),
            timeout: self.api.left(),
            keep: Keep::Long,
        };
        let Response { status, headers, body, truncated } =
            http.send(request).await.map_err(|err| self.failed(&err))?;
        self.api.state.lock().last_status = Some(status.as_u16());
        let json = if truncated { Value::Null } else { serde_json::from_slice(&body).unwrap_or_default() };
        // A question has no time of its own: without one, a reset would seem decades away.
        let at = match self.api.args.now {
            Timestamp(0) => retry_after::date(&headers),
            now => Some(now),
        };
        Ok(Answer { status: status.as_u16(), headers, json, body, truncated, at })
    }

    fn url(&self) -> Result<Url, Stop> {
        let mut url = Url::parse(&self.url)
            .map_err(|err| Stop::refused(format!("the account's address is not usable: {err}")))?;
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        Ok(url)
    }

    fn header_map(&self, token: Option<&Secret>) -> Result<HeaderMap, Stop> {
        let account = self.api.args.account;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(crate::transport::USER_AGENT));
        if self.body.is_empty() {
            headers.remove(CONTENT_TYPE);
        }
        let own = account.headers.iter().chain(&self.headers);
        for (name, text) in own {
            headers.insert(HeaderName::from_static(name), value(text, false)?);
        }
        let authorization = match (&account.entry, token) {
            (_, Some(token)) => Some(format!("{} {}", self.word, token.expose())),
            (Entry::Token(word, secret), None) => Some(format!("{word} {}", secret.expose())),
            (Entry::Basic(user, password), None) => {
                Some(format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose()))))
            }
            (Entry::Header(name, secret), None) => {
                headers.insert(HeaderName::from_static(name), value(secret.expose(), true)?);
                None
            }
            (Entry::Open | Entry::Consent(_), None) => None,
        };
        if let Some(text) = authorization {
            headers.insert(AUTHORIZATION, value(&text, true)?);
        }
        Ok(headers)
    }

    fn judge(&self, answer: Answer, token: Option<&Secret>) -> Result<Answer, Stop> {
        if self.is_fine(&answer) {
            return Ok(answer);
        }
        let verdict = self.api.args.service.verdict(&answer);
        if verdict == Verdict::Fine {
            return Ok(answer);
        }
        Err(self.stop(&verdict, answer, token))
    }

    /// The report of a call that was answered, and not as it should be.
    fn stop(&self, verdict: &Verdict, answer: Answer, token: Option<&Secret>) -> Stop {
        let Args { account, redactor, kind, setup, .. } = &self.api.args;
        let name = kind;
        let asked = || retry_after::asked(&answer.headers, answer.at?);
        let (outcome, inactive, retry_after, pauses) = match verdict {
            Verdict::Fine | Verdict::Refused => (Outcome::RejectedClientError, None, None, true),
            Verdict::Unwell => {
                let wait = if answer.status == 503 { asked() } else { None };
                (Outcome::RejectedServerError, None, wait, true)
            }
            Verdict::Slower { wait, over } => {
                let wait = wait.or_else(asked).unwrap_or(account.rest);
                let budget = self.api.account_budget();
                match (over, &self.part) {
                    (Over::Part, Some((part, pace))) => {
                        setup.limits.pause(&format!("{budget}/{part}"), *pace, wait);
                    }
                    _ => setup.limits.pause(&budget, account.pace, wait),
                }
                (Outcome::RateLimited, None, Some(wait), *over != Over::Part)
            }
            Verdict::Expired => (Outcome::AuthFailed, None, None, true),
            Verdict::Locked(reason) => (Outcome::AuthFailed, Some(*reason), None, true),
        };
        let words = words(&answer);
        let status = answer.status;
        let said = if words.is_empty() { String::new() } else { format!(": {words}") };
        let next = next_step(outcome, self.api.args.out.is_some());
        let mut message = redactor.scrub(format!("{name} answered {status}{said}{next}"));
        let response = Response {
            status: reqwest::StatusCode::from_u16(status).unwrap_or_default(),
            headers: answer.headers,
            body: answer.body.into_iter().take(crate::transport::BODY_BYTES_MAX).collect(),
            truncated: answer.truncated,
        };
        let mut kept = redactor.capture(&response);
        if let Some(token) = token {
            let of_token = Redactor::new([token.expose()]);
            (message, kept.body) = (of_token.scrub(message), of_token.scrub(kept.body));
        }
        Stop(Box::new(Report {
            http_status: Some(status),
            retry_after,
            response: Some(kept),
            inactive,
            pauses,
            ..reports::failed(outcome, message)
        }))
    }

    /// The report of a call that was not answered.
    fn failed(&self, err: &SendError) -> Stop {
        let is_ambiguous =
            !self.is_repeatable && matches!(err, SendError::Timeout(_) | SendError::Network(_));
        let maybe = if is_ambiguous { "; it may have been applied, and is tried again" } else { "" };
        Stop(Box::new(reports::failed(err.outcome(), format!("{err}{maybe}"))))
    }
}

/// Over in a moment, perhaps.
fn is_passing(report: &Report) -> bool {
    let unwell = matches!(report.outcome, Outcome::NetworkError | Outcome::RejectedServerError);
    unwell && report.retry_after.is_none()
}

fn no_token(err: TokenError) -> Stop {
    let message = err.to_string();
    Stop(Box::new(match err {
        TokenError::Lost { reason, .. } => {
            Report { inactive: Some(reason), ..reports::failed(Outcome::AuthFailed, message) }
        }
        TokenError::Later(_) => reports::failed(Outcome::RejectedServerError, message),
    }))
}

fn value(text: &str, is_secret: bool) -> Result<HeaderValue, Stop> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Stop::mapping("a value has a character that no header may have: edit the rule or the connection")
    })?;
    value.set_sensitive(is_secret);
    Ok(value)
}

/// What a person can do about it.
const fn next_step(outcome: Outcome, is_delivery: bool) -> &'static str {
    match outcome {
        Outcome::RejectedClientError if is_delivery => {
            "; correct the account or the mapping and retry it, or the rule and replay it"
        }
        Outcome::RejectedServerError if is_delivery => "; it is tried again",
        Outcome::AuthFailed => "; check the connection's credentials and what they are allowed to do",
        Outcome::RateLimited => "; it goes on by itself",
        _ => "",
    }
}

/// The longest of a service's own words that goes into a message, in characters.
const WORDS_MAX: usize = 300;
/// Where services put their words, as JSON pointers; a code first, then the sentence.
const CODES: [&str; 10] = [
    "/error/code",
    "/errors/0/code",
    "/code",
    "/errorCode",
    "/0/errorCode",
    "/error/type",
    "/category",
    "/title",
    "/name",
    "/error_code",
];
const SENTENCES: [&str; 13] = [
    "/error/message",
    "/errors/0/message",
    "/errors/0/detail",
    "/errors/0/reason",
    "/message",
    "/0/message",
    "/detail",
    "/error_description",
    "/meta/error",
    "/errors/0/title",
    "/error",
    "/errors/0",
    "/error_info",
];

/// The service's own code and sentence, wherever its kind of body has them.
fn words(answer: &Answer) -> String {
    let first = |places: &[&str]| {
        let mut found = places.iter().filter_map(|place| answer.json.pointer(place));
        found.find_map(|value| match value {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    };
    let (code, mut sentence) = (first(&CODES), first(&SENTENCES));
    if let (Some(sentence), Some(field)) = (&mut sentence, first(&["/errors/0/field"])) {
        *sentence = format!("{sentence} ({field})");
    }
    let words = match (code, sentence) {
        (Some(code), Some(sentence)) if code != sentence => format!("{code}: {sentence}"),
        (Some(one), _) | (None, Some(one)) => one,
        (None, None) => String::new(),
    };
    let clean = words.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(WORDS_MAX).collect()
}
