//! What providers ask before they deliver: echo this, compute that, answer an OPTIONS. And pings, which are
//! recorded and start nothing. An answer is made before any task could exist.

use jiff::Timestamp;
use subtle::{Choice, ConstantTimeEq as _};

use crate::{
    Rejection, Request, Scheme, Secret, Verified,
    algorithm::Hash,
    condition::{Condition, all_hold},
    encoding::Encoding,
    fetch::Fetch,
    place::{self, Place, Source},
    template::{Filling, Template, Value},
};

/// A secret with this prefix proves handshakes and never signs deliveries.
const TOKEN_PREFIX: &[u8] = b"token:";
/// What a provider may have echoed.
const MAX_ECHO: usize = 4096;

#[derive(Debug, Clone)]
pub(crate) struct Handshake {
    pub(crate) about: String,
    pub(crate) method: Method,
    pub(crate) when: Vec<Condition>,
    pub(crate) proof: Proof,
    /// Somebody must open this address.
    pub(crate) visit: Option<Fetch>,
    pub(crate) mac: Option<MacRule>,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, Template)>,
    pub(crate) body: AnswerBody,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Options,
    Post,
}

/// What makes a request worth an answer.
#[derive(Debug, Clone)]
pub(crate) enum Proof {
    /// Nothing: the answer tells only what the sender said.
    None,
    /// It is signed as deliveries are.
    Signature,
    /// It holds one of the secrets.
    Token(Place),
    /// The hook waits for its secret, and here it is.
    SetsSecret(Place),
}

/// An HMAC with the secret that verified the request.
#[derive(Debug, Clone)]
pub(crate) struct MacRule {
    pub(crate) hash: Hash,
    pub(crate) of: Template,
    pub(crate) encoding: Encoding,
}

#[derive(Debug, Clone)]
pub(crate) enum AnswerBody {
    Empty,
    Text(Template),
    /// Members in this order.
    Json(Vec<(String, Template)>),
}

/// A test that a provider sends now and then.
#[derive(Debug, Clone)]
pub(crate) struct Ping {
    pub(crate) when: Vec<Condition>,
    pub(crate) unsigned: Signed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signed {
    Always,
    /// The provider sends it without a signature too.
    Perhaps,
}

/// Whether a hook has its secret yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    No,
    /// For a handshake that sets it.
    ForSecret,
}

/// What one request is.
#[derive(Debug, Clone)]
pub enum Judged {
    /// An event.
    Delivery(Verified),
    /// To be recorded; it starts nothing. Without its proof it was not even signed.
    Ping {
        event_type: Option<String>,
        verified: Option<Verified>,
    },
    Answer(Answer),
}

/// The answer to a handshake.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What was asked, in a few words.
    pub about: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// An address that must be opened for the subscription to count; its host is on the scheme's list.
    pub visit: Option<String>,
    /// The secret of all deliveries to come: to be kept, or the answer must not be sent.
    pub secret: Option<Secret>,
}

impl Method {
    pub(crate) const NAMES: [&str; 4] = ["GET", "HEAD", "OPTIONS", "POST"];

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "GET" => Some(Self::Get),
            "HEAD" => Some(Self::Head),
            "OPTIONS" => Some(Self::Options),
            "POST" => Some(Self::Post),
            _ => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
        }
    }
}

impl Scheme {
    /// Judges a request in the order that lets nothing slip: handshakes that come unsigned, then pings that do,
    /// then the signature; what is left is a delivery.
    pub fn judge(
        &self,
        request: &Request<'_>,
        secrets: &[Secret],
        now: Option<Timestamp>,
        waiting: Waiting,
    ) -> Result<Judged, Rejection> {
        let source = Source::of(*request);
        if let Some(asked) = self.asked(&source, |proof| !matches!(proof, Proof::Signature))? {
            return asked.answer(&source, secrets, waiting).map(Judged::Answer);
        }
        if request.method != Method::Post.name() {
            return Err(Rejection::Unexpected(request.method.to_owned()));
        }
        if !self.is_signed(&source) && self.is_ping(&source, &[Signed::Perhaps])? {
            let event_type = place::first(&self.delivery.event_type, &source)?.map(String::from);
            return Ok(Judged::Ping { event_type, verified: None });
        }
        let verified = self.verify(request, secrets, now)?;
        if let Some(asked) = self.asked(&source, |proof| matches!(proof, Proof::Signature))? {
            return asked
                .answer(&source, &secrets[verified.secret..=verified.secret], waiting)
                .map(Judged::Answer);
        }
        if self.is_ping(&source, &[Signed::Perhaps, Signed::Always])? {
            return Ok(Judged::Ping { event_type: verified.event_type.clone(), verified: Some(verified) });
        }
        Ok(Judged::Delivery(verified))
    }

    /// Whether requests other than POST can be handshakes.
    pub fn answers_method(&self, method: &str) -> bool {
        self.handshakes.iter().any(|handshake| handshake.method.name() == method)
    }

    /// Whether the hook's secret comes with a handshake.
    pub fn sets_secret(&self) -> bool {
        self.handshakes.iter().any(|handshake| matches!(handshake.proof, Proof::SetsSecret(_)))
    }

    /// Whether a POST with this head can be a handshake or a ping that needs no signature.
    pub(crate) fn may_be_unsigned(&self, head: &Source<'_>) -> Result<bool, Rejection> {
        let handshakes = self
            .handshakes
            .iter()
            .filter(|handshake| {
                handshake.method == Method::Post && !matches!(handshake.proof, Proof::Signature)
            })
            .map(|handshake| &handshake.when);
        let pings = self.pings.iter().filter(|ping| ping.unsigned == Signed::Perhaps).map(|ping| &ping.when);
        for when in handshakes.chain(pings) {
            let of_head: Vec<Condition> = when.iter().filter(|one| one.is_of_head()).cloned().collect();
            if all_hold(&of_head, head)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn asked(
        &self,
        source: &Source<'_>,
        of_kind: impl Fn(&Proof) -> bool,
    ) -> Result<Option<&Handshake>, Rejection> {
        for handshake in &self.handshakes {
            let meant = handshake.method.name() == source.request.method && of_kind(&handshake.proof);
            if meant && all_hold(&handshake.when, source)? {
                return Ok(Some(handshake));
            }
        }
        Ok(None)
    }

    fn is_ping(&self, source: &Source<'_>, kinds: &[Signed]) -> Result<bool, Rejection> {
        for ping in self.pings.iter().filter(|ping| kinds.contains(&ping.unsigned)) {
            if all_hold(&ping.when, source)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether there is anything where signatures stand, be it right or wrong.
    fn is_signed(&self, source: &Source<'_>) -> bool {
        let places = self.signatures.iter().flat_map(|rule| &rule.places);
        places.into_iter().any(|place| !matches!(place.find(source), Ok(None)))
    }

    /// The secrets that deliveries are signed with.
    pub(crate) fn signs_with(&self, secret: &Secret) -> bool {
        let tokens = self.handshakes.iter().any(|handshake| matches!(handshake.proof, Proof::Token(_)));
        !(tokens && secret.bytes().starts_with(TOKEN_PREFIX))
    }
}

impl Handshake {
    pub(crate) fn secret_header(&self) -> Option<&str> {
        match &self.proof {
            Proof::SetsSecret(place) | Proof::Token(place) => place.header_name(),
            Proof::None | Proof::Signature => None,
        }
    }

    pub(crate) const fn token(&self) -> Option<&Place> {
        match &self.proof {
            Proof::Token(place) => Some(place),
            Proof::None | Proof::Signature | Proof::SetsSecret(_) => None,
        }
    }

    /// `secrets`: all live ones, or the one that verified the request.
    fn answer(&self, source: &Source<'_>, secrets: &[Secret], waiting: Waiting) -> Result<Answer, Rejection> {
        let mut secret = None;
        match &self.proof {
            Proof::None | Proof::Signature => {}
            Proof::Token(place) => check_token(place, source, secrets)?,
            Proof::SetsSecret(place) => {
                let value = place.plain(source)?.ok_or_else(|| Rejection::Missing(place.to_string()))?;
                if waiting == Waiting::No {
                    return Err(Rejection::NotWaiting);
                }
                secret = Some(Secret::new(value.as_bytes()));
            }
        }
        let mac = self.mac(source, secrets)?;
        let fill = |template: &Template| fill(template, source, &mac);
        let mut headers = Vec::new();
        for (name, template) in &self.headers {
            headers.push((name.clone(), fill(template)?));
        }
        let body = match &self.body {
            AnswerBody::Empty => String::new(),
            AnswerBody::Text(template) => fill(template)?,
            AnswerBody::Json(members) => {
                let texts = members.iter().map(|(name, value)| Ok((name.as_str(), fill(value)?)));
                object(&texts.collect::<Result<Vec<_>, Rejection>>()?)
            }
        };
        let visit = self.visit.as_ref().map(|visit| visit.address(source)).transpose()?;
        Ok(Answer { about: self.about.clone(), status: self.status, headers, body, visit, secret })
    }

    /// Only in what is signed: checked when the scheme was read.
    fn mac(&self, source: &Source<'_>, secrets: &[Secret]) -> Result<String, Rejection> {
        let (Some(rule), Some(secret)) = (&self.mac, secrets.first()) else { return Ok(String::new()) };
        let text = fill(&rule.of, source, "")?;
        Ok(rule.encoding.encode(&rule.hash.hmac(secret.bytes(), &[text.as_bytes().into()])))
    }
}

/// Every secret is compared, in constant time. Where some are marked as tokens, only those count.
fn check_token(place: &Place, source: &Source<'_>, secrets: &[Secret]) -> Result<(), Rejection> {
    let given = place.find(source)?.ok_or_else(|| Rejection::Missing(place.to_string()))?;
    let marked: Vec<&[u8]> =
        secrets.iter().filter_map(|secret| secret.bytes().strip_prefix(TOKEN_PREFIX)).collect();
    let tokens = if marked.is_empty() { secrets.iter().map(Secret::bytes).collect() } else { marked };
    let mut hit = Choice::from(0);
    for token in tokens.into_iter().filter(|token| !token.trim_ascii().is_empty()) {
        hit |= token.ct_eq(&*given);
    }
    if bool::from(hit) { Ok(()) } else { Err(Rejection::Mismatch) }
}

/// A text that may be sent back: no control characters, which could end a header or drive a terminal.
fn fill(template: &Template, source: &Source<'_>, mac: &str) -> Result<String, Rejection> {
    let filling = Filling { source: *source, url: "", timestamp: "", id: "", mac };
    let bytes = template.fill(&filling)?.concat();
    let malformed = |why: &str| Rejection::Malformed("handshake".to_owned(), why.to_owned());
    let text = String::from_utf8(bytes).map_err(|_| malformed("it is not text"))?;
    if text.len() > MAX_ECHO {
        return Err(malformed(&format!("it asks for an answer of more than {MAX_ECHO} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(malformed("it asks for control characters"));
    }
    Ok(text)
}

/// In the order given: a provider may compare texts.
fn object(members: &[(&str, String)]) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let members: Vec<String> =
        members.iter().map(|(name, value)| format!("{}:{}", quoted(name), quoted(value))).collect();
    format!("{{{}}}", members.join(","))
}

/// What answers may hold.
pub(crate) fn may_answer(value: &Value) -> bool {
    matches!(value, Value::At(_) | Value::Mac)
}
