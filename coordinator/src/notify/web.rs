//! One request to a web server, and what its answer means. Redirects are not followed, no proxy is asked, and of an answer
//! 64 KiB are read. The kinds of receivers that are asked by HTTP make a [`Post`]; `target` has it sent.

use std::{path::Path, time::Duration};

use reqwest::{
    Certificate, Client, Method, Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use serde_json::Value;
use tokio::time::{Instant, error::Elapsed, timeout, timeout_at};

use super::{
    files::{FieldError, at, read_ca},
    target::SendError,
    words::{cut, plain},
};

const MAX_ANSWER_BYTES: usize = 64 * 1024;
const MAX_SAID_CHARS: usize = 300;
/// What a server asks for is believed up to this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Chat programs count by the minute, and do not say when it is over.
const CHAT_RETRY_AFTER: Duration = Duration::from_secs(60);
/// For the words behind a status that says all: they are only shown.
const WORDS_PATIENCE: Duration = Duration::from_millis(500);
/// What is shorter in a URL is no key, and a part of many words.
const MIN_KEY_BYTES: usize = 8;

/// A request that is ready to be sent.
pub(super) struct Post {
    client: Client,
    /// Where.
    pub(super) url: Url,
    /// `POST` or `PUT`.
    pub(super) method: Method,
    /// With `Content-Type`.
    pub(super) headers: HeaderMap,
    /// As it goes.
    pub(super) body: Vec<u8>,
    /// What must not be shown, though the other side may repeat it.
    pub(super) hidden: Vec<String>,
    judge: Judge,
}

/// What an answer of 2xx means.
#[derive(Clone, Copy)]
pub(super) enum Judge {
    /// It was taken, whatever it says.
    ByStatus,
    /// It was, unless it says something else.
    UnlessItSays(fn(&str) -> Result<(), Refusal>),
    /// What it says; without that nobody knows.
    ByWords(fn(&str) -> Result<(), Refusal>),
}

/// Taken by HTTP, and yet refused.
#[derive(Default)]
pub(super) struct Refusal {
    /// Trying again is useless.
    is_permanent: bool,
    /// When it may be tried again.
    retry_after: Option<Duration>,
}

impl std::fmt::Debug for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Post").field("body", &String::from_utf8_lossy(&self.body)).finish_non_exhaustive()
    }
}

impl Post {
    /// A `POST` of JSON to `url`; path and query of it are taken for secret. `ca_file` names authorities beside the system's.
    pub(super) fn json(url: Url, body: &Value, ca_file: Option<&Path>, judge: Judge) -> Result<Self, FieldError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        let hidden = parts(&url);
        let client = client(&url, ca_file)?;
        Ok(Self { client, url, method: Method::POST, headers, body: body.to_string().into_bytes(), hidden, judge })
    }

    /// Sends it: what was answered, in one line. What says whether it was taken must be there by then.
    pub(super) async fn send(self, until: Instant) -> Result<Result<String, SendError>, Elapsed> {
        let Self { client, url, method, headers, body, mut hidden, judge } = self;
        // A query may have been added since.
        hidden.extend(parts(&url));
        let mut answer = Vec::new();
        let asked = async {
            let mut response = client.request(method, url).headers(headers).body(body).send().await?;
            let by_words = response.status().is_success() && matches!(judge, Judge::ByWords(_));
            if by_words {
                read(&mut response, &mut answer).await?;
            }
            Ok((response, by_words))
        };
        let (mut response, is_read) = match timeout_at(until, asked).await? {
            Ok(asked) => asked,
            Err(failed) => return Ok(Err(SendError::again(innermost(&failed)))),
        };
        // The status has said what became of it: sent again it would come twice.
        let is_read = is_read || matches!(timeout(WORDS_PATIENCE, read(&mut response, &mut answer)).await, Ok(Ok(())));
        let (retry_after, answer) = (retry_after(&response), String::from_utf8_lossy(&answer).into_owned());
        Ok(judge.verdict(response.status(), is_read, &answer, said(response.status(), &answer, &hidden), retry_after))
    }
}

impl Judge {
    /// `answer`: all of it, if it `is_read`.
    fn verdict(
        self,
        status: StatusCode,
        is_read: bool,
        answer: &str,
        said: String,
        retry_after: Option<Duration>,
    ) -> Result<String, SendError> {
        let is_permanent = match status.as_u16() {
            200..=299 => {
                let judged = match self {
                    Self::ByWords(judge) => judge(answer),
                    Self::UnlessItSays(judge) if is_read => judge(answer),
                    Self::UnlessItSays(_) | Self::ByStatus => Ok(()),
                };
                return match judged {
                    Ok(()) => Ok(said),
                    Err(Refusal { is_permanent, retry_after }) => Err(SendError { is_permanent, retry_after, said }),
                };
            }
            300..=399 => {
                let said = cut(&format!("{said}: it leads elsewhere, and redirects are not followed"), MAX_SAID_CHARS);
                return Err(SendError { is_permanent: true, retry_after: None, said });
            }
            // A password that was changed there first is changed here, too, before long.
            401 | 403 | 407 => false,
            408 | 425 | 429 => false,
            400..=499 => true,
            _ => false,
        };
        Err(SendError { is_permanent, retry_after, said })
    }
}

fn client(url: &Url, ca_file: Option<&Path>) -> Result<Client, FieldError> {
    let client = Client::builder().redirect(Policy::none()).no_proxy().http1_only().user_agent("drover-coordinator");
    let client = match ca_file {
        Some(path) => {
            let pem = read_ca(path).map_err(at("ca_file"))?;
            let found = Certificate::from_pem_bundle(&pem);
            client.tls_certs_merge(found.map_err(|e| at("ca_file")(innermost(&e)))?)
        }
        // A machine that has none of the system's can still send without TLS.
        None if url.scheme() == "http" => client.tls_certs_only([]),
        None => client,
    };
    client.build().map_err(|e| at("url")(format!("nobody can be asked by TLS: {}", innermost(&e))))
}

/// Of a URL, what may be a key.
fn parts(url: &Url) -> Vec<String> {
    let path = url.path_segments().into_iter().flatten().map(str::to_owned);
    let query = url.query_pairs().map(|(_, value)| value.into_owned());
    let raw = url.query().into_iter().flat_map(|query| query.split('&')).filter_map(|pair| pair.split_once('='));
    let all = path.chain(query).chain(raw.map(|(_, value)| value.to_owned()));
    all.filter(|part| part.len() >= MIN_KEY_BYTES).collect()
}

/// Seconds; the other form, a date, is what nobody sends with 429.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// Its beginning is there also when it breaks off.
async fn read(response: &mut Response, answer: &mut Vec<u8>) -> reqwest::Result<()> {
    while let Some(chunk) = response.chunk().await? {
        let room = MAX_ANSWER_BYTES - answer.len();
        answer.extend(chunk.iter().take(room));
        if answer.len() >= MAX_ANSWER_BYTES {
            break;
        }
    }
    Ok(())
}

/// One line: the status and the beginning of the answer, without what is to be hidden.
fn said(status: StatusCode, answer: &str, hidden: &[String]) -> String {
    let mut answer = answer.to_owned();
    for secret in hidden.iter().filter(|secret| !secret.is_empty()) {
        answer = answer.replace(secret.as_str(), "[secret]");
    }
    let answer = plain(&answer);
    let separator = if answer.is_empty() { "" } else { ": " };
    cut(&format!("{status}{separator}{answer}"), MAX_SAID_CHARS)
}

/// The reason at the bottom; what is above repeats the URL.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match cause.downcast_ref::<reqwest::Error>() {
        // Its own words have the URL in them.
        Some(own) if own.is_builder() => "the request cannot be made".to_owned(),
        Some(_) => "the request failed".to_owned(),
        None => cut(&plain(&cause.to_string()), MAX_SAID_CHARS),
    }
}

/// Of chat programs, which answer 200 and say in a field whether it was taken. `busy`: the codes of what is temporary.
pub(super) fn by_code(answer: &str, fields: &[&str], busy: &[i64]) -> Result<(), Refusal> {
    let document: Value = serde_json::from_str(answer).unwrap_or_default();
    let code = fields.iter().find_map(|field| document.get(field)?.as_i64());
    match code {
        Some(0) => Ok(()),
        Some(code) if busy.contains(&code) => Err(Refusal { is_permanent: false, retry_after: Some(CHAT_RETRY_AFTER) }),
        Some(_) => Err(Refusal { is_permanent: true, retry_after: None }),
        // Whoever answered was not the chat program: something in between.
        None => Err(Refusal::default()),
    }
}

/// Of Slack and what speaks like it: the word `ok`.
pub(super) fn by_ok(answer: &str) -> Result<(), Refusal> {
    // Rocket.Chat, which takes the same messages, says it otherwise.
    let is_success = || serde_json::from_str::<Value>(answer).is_ok_and(|answer| answer["success"] == true);
    if answer.trim() == "ok" || is_success() { Ok(()) } else { Err(Refusal::default()) }
}

#[cfg(test)]
mod tests {
    //! What is shown of an answer.
    use super::*;

    #[test]
    fn what_is_shown_of_an_answer_is_short_and_has_no_secret() {
        let url =
            Url::parse("https://hooks.slack.com/services/T0123/B4567890/sEcReTsEcReT?token=a%2Bb%2Bc%2Bd%2B").unwrap();
        let echo = "no\r\nsuch hook: /services/T0123/B4567890/sEcReTsEcReT token=a+b+c+d+ or a%2Bb%2Bc%2Bd%2B\u{202e}";
        let shown = said(StatusCode::NOT_FOUND, echo, &parts(&url));
        let expected = "404 Not Found: no  such hook: /[secret]/T0123/[secret]/[secret] token=[secret] or [secret]";
        assert_eq!(shown, expected);
        assert_eq!(said(StatusCode::OK, &"x".repeat(5000), &[]).chars().count(), 300);
        assert_eq!(said(StatusCode::NO_CONTENT, "", &[]), "204 No Content");
    }

    #[test]
    fn a_code_in_the_answer_counts_and_silence_is_not_consent() {
        let judge = |answer: &str| by_code(answer, &["code", "StatusCode"], &[45009]);
        assert!(judge(r#"{"code":0,"msg":"success"}"#).is_ok());
        assert!(judge(r#"{"StatusCode":0}"#).is_ok());
        let rows = [
            (r#"{"code":19021,"msg":"sign match fail"}"#, true, false),
            (r#"{"code":45009}"#, false, true),
            (r#"{"code":"0"}"#, false, false),
            ("<html>", false, false),
            ("", false, false),
        ];
        for (answer, is_permanent, is_told_when) in rows {
            let refusal = judge(answer).unwrap_err();
            assert_eq!((refusal.is_permanent, refusal.retry_after.is_some()), (is_permanent, is_told_when), "{answer}");
        }
        assert!(by_ok("ok\n").is_ok() && by_ok("okay").is_err() && by_ok("").is_err());
    }
}
