//! What a fuzzer may send: a conversation, as a structure that any bytes can be read into.
//!
//! Owns the shape. Most of what it can say is right in most places, so that a few changed bytes reach far;
//! each part has its wrong forms as well. Trap: the first variant of an enum is what missing bytes become,
//! and a change of any of these types gives every file of the corpus another meaning.

use arbitrary::{Arbitrary, Result, Unstructured};

use crate::stories;

/// Requests at the most.
const MAX_STEPS: usize = 12;

/// What one client, or several, send one after another to one server.
#[derive(Clone, Debug)]
pub struct Conversation {
    pub steps: Vec<Step>,
}

impl<'a> Arbitrary<'a> for Conversation {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mut steps = stories::beginning(u.arbitrary()?);
        while steps.len() < MAX_STEPS && !u.is_empty() {
            steps.push(u.arbitrary()?);
        }
        Ok(Self { steps })
    }
}

/// One request.
#[derive(Clone, Debug, Arbitrary)]
pub struct Step {
    pub host: Host,
    /// Whether it comes through a proxy whose word counts.
    pub proxied: bool,
    pub ask: Ask,
    pub headers: Vec<Header>,
    pub spoils: Vec<Spoil>,
    pub delivery: Delivery,
    pub reading: Reading,
}

/// Where it is sent.
#[derive(Clone, Debug, Arbitrary)]
pub enum Host {
    /// Where the last one was sent.
    Same,
    Instance(u8),
    FrontDoor,
    Other(HostForm, u8),
}

#[derive(Clone, Copy, Debug, Arbitrary)]
pub enum HostForm {
    Upper,
    Dot,
    Port,
    LongPort,
    V6,
    Foreign,
    Missing,
    Twice,
    InTarget,
    InTargetOnly,
    Bytes,
}

/// What is asked.
#[derive(Clone, Debug, Arbitrary)]
pub enum Ask {
    /// A POST in a revision that has sessions.
    Sessioned {
        session: Option<Ref>,
        version: Option<Version>,
        message: Message,
    },
    /// A POST of 2026-07-28 with the headers that belong to it.
    Stateless {
        message: Message,
        meta: Meta,
    },
    /// The last message once more, with an answer to all that has been asked since.
    Again {
        answer: Answer,
        state: bool,
    },
    Initialize {
        version: Version,
        unable: u8,
        client: Option<(Text, Text)>,
    },
    Get {
        session: Option<Ref>,
        after: Option<Event>,
    },
    Delete {
        session: Option<Ref>,
    },
    Batch {
        session: Option<Ref>,
        messages: Vec<Message>,
    },
    Other {
        verb: u8,
        path: Path,
    },
    Json(Json),
    Bytes(Vec<u8>),
    Large(u8),
    /// Nothing is asked; time passes.
    Pass(u16),
}

#[derive(Clone, Debug, Arbitrary)]
pub enum Path {
    Mcp,
    McpSlash,
    Sessions { token: bool, query: Option<Text> },
    Session { token: bool, session: Ref },
    Metadata,
    MetadataOfMcp,
    Health(u8),
    Free(Text),
}

/// Something that an answer gave earlier, around and around; or what it never gave.
#[derive(Clone, Debug, Arbitrary)]
pub enum Ref {
    Known(u8),
    Strange(u8),
    Free(Text),
}

#[derive(Clone, Copy, Debug, Arbitrary)]
pub enum Version {
    V2025_11_25,
    V2025_06_18,
    V2025_03_26,
    V2024_11_05,
    V2026_07_28,
    Later,
    NoDate,
}

#[derive(Clone, Debug, Arbitrary)]
pub enum Event {
    Known(u8),
    Free(u8, u64),
    Text(Text),
}

#[derive(Clone, Debug, Arbitrary)]
pub struct Message {
    pub kind: Kind,
    pub id: RpcId,
    pub extra: Extra,
}

/// What a message is.
#[derive(Clone, Debug, Arbitrary)]
pub enum Kind {
    Tool {
        tool: u8,
        text: Text,
        number: Number,
        /// Which of the optional arguments are there, a bit each.
        optional: u8,
        handle: Option<Ref>,
        overlay: Vec<(Word, Json)>,
    },
    List(u8, Option<Ref>),
    Read(Uri),
    Subscribe(Uri),
    Unsubscribe(Uri),
    Prompt {
        prompt: u8,
        blanks: Vec<(Word, Text)>,
    },
    Complete {
        prompt: bool,
        of: u8,
        argument: Word,
        value: Text,
        session: Option<Ref>,
    },
    Level(u8),
    Listen {
        lists: u8,
        uris: Vec<Uri>,
        tasks: Vec<Ref>,
    },
    Task {
        verb: u8,
        task: Ref,
    },
    Ping,
    Discover,
    /// A client's answer to a question of the server.
    Answer {
        question: Ref,
        answer: Answer,
    },
    Notice(u8, RpcId),
    Method {
        method: Word,
        params: Json,
        notification: bool,
    },
    Odd(Json),
}

/// What any request may carry.
#[derive(Clone, Debug, Arbitrary)]
pub struct Extra {
    pub progress: Option<Json>,
    pub answers: Vec<(Word, Answer)>,
    /// To whatever has been asked last.
    pub answer: Option<Answer>,
    pub state: Option<Ref>,
    pub meta: Vec<(Word, Json)>,
}

#[derive(Clone, Debug, Arbitrary)]
pub enum Answer {
    Accept(Word, Text),
    Decline,
    Model(Text),
    Roots(Text),
    Error,
    Json(Json),
}

/// `_meta` of a request that stands for itself.
#[derive(Clone, Debug, Arbitrary)]
pub struct Meta {
    /// What the client cannot do, a bit each.
    pub unable: u8,
    pub level: Option<u8>,
    pub version: Option<Version>,
    pub trace: bool,
}

#[derive(Clone, Debug, Arbitrary)]
pub enum RpcId {
    Small(u8),
    Text(Text),
    Number(i64),
    Digits(u8),
    Json(Json),
}

#[derive(Clone, Debug, Arbitrary)]
pub enum Uri {
    Data(Ref, Word),
    Fixed(u8),
    Template(Text),
    Free(Text),
}

/// A header beside those that belong to the request, or in place of one of them.
#[derive(Clone, Debug, Arbitrary)]
pub struct Header {
    pub name: u8,
    pub value: HeaderValue,
    pub again: bool,
}

#[derive(Clone, Debug, Arbitrary)]
pub enum HeaderValue {
    Likely(u8),
    Text(Text),
    Base64(Text),
    Bytes(Vec<u8>),
    Session(Ref),
    Gone,
}

/// What goes wrong with a body on its way.
#[derive(Clone, Debug, Arbitrary)]
pub enum Spoil {
    Cut(u16),
    Flip(u16, u8),
    Insert(u16, Vec<u8>),
    Twice(u16, u8),
    Space(u16),
}

#[derive(Clone, Copy, Debug, Arbitrary)]
pub enum Delivery {
    Whole,
    Chunks(u8),
    Stalls(u16),
    Breaks(u16),
}

/// How the answer is read.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub enum Reading {
    /// To its end, or until nothing more comes.
    Whole,
    /// The same, while the conversation goes on.
    Meanwhile,
    /// So many frames, and then the client is gone.
    Some(u8),
    /// The client is gone before there is an answer, unless that is there at once.
    None,
}

/// A JSON value, or nearly one.
#[derive(Clone, Debug, Arbitrary)]
pub enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(Text),
    List(Vec<Json>),
    Map(Vec<(Word, Json)>),
    Known(Ref),
    Deep(u8),
    Uri(Box<Uri>),
}

#[derive(Clone, Copy, Debug, Arbitrary)]
pub enum Number {
    Small(u8),
    Int(i64),
    Float(f64),
    Odd(u8),
}

/// A name that means something somewhere, or any text.
#[derive(Clone, Debug, Arbitrary)]
pub enum Word {
    Known(u8),
    Free(Text),
}

#[derive(Clone, Debug)]
pub enum Text {
    Word(u8),
    Free(String),
    /// As JSON text, between the quotes.
    Escaped(u8),
    Long(u16),
}

impl<'a> Arbitrary<'a> for Text {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match u.int_in_range(0..=7u8)? {
            0..=3 => Self::Word(u.arbitrary()?),
            4 | 5 => {
                let length = u.int_in_range(0..=12usize)?;
                let bytes = u.bytes(length.min(u.len()))?;
                Self::Free(String::from_utf8_lossy(bytes).into_owned())
            }
            6 => Self::Escaped(u.arbitrary()?),
            _ => Self::Long(u.arbitrary()?),
        })
    }
}
