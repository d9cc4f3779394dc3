//! How a request went, in one word.
//!
//! Owns [`RequestOutcome`], the closed set of words that the log and the metrics use. Refuses a word that
//! stands in no list: whoever notes an outcome names a variant, so nothing a client says can become a label.
//! Trap: a client that leaves is known at the end alone, whatever was noted before.

macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)+) => {
        /// How a request went.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RequestOutcome { $($(#[$doc])* $variant,)+ }

        impl RequestOutcome {
            /// Every outcome, in the order of [`RequestOutcome::index`].
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As it stands in the log and in metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

outcomes! {
    /// It was answered.
    Ok = "ok";
    /// A tool ran and says that it failed.
    ToolError = "tool_error";
    /// The client is asked for more.
    InputRequired = "input_required";
    /// The client took its request back.
    Cancelled = "cancelled";
    /// The client went away before the answer had ended.
    ClientGone = "client_gone";
    /// Refused by a capability, or before MCP.
    Refused = "refused";
    /// The bearer check failed.
    Unauthorized = "unauthorized";
    /// A page of an origin that may not call.
    ForeignOrigin = "foreign_origin";
    /// The body is not JSON.
    NotJson = "not_json";
    /// The body is no message.
    NotAMessage = "not_a_message";
    /// There is no such method.
    MethodNotFound = "method_not_found";
    /// The parameters do not fit the method.
    InvalidParams = "invalid_params";
    /// There is no such tool.
    UnknownTool = "unknown_tool";
    /// There is no such resource.
    ResourceNotFound = "resource_not_found";
    /// The client lacks a capability.
    MissingCapability = "missing_capability";
    /// `_meta` lacks what it must have.
    BadMeta = "bad_meta";
    /// A header does not say what the body says.
    HeaderMismatch = "header_mismatch";
    /// A stateless revision that is not served.
    UnsupportedRevision = "unsupported_revision";
    /// `stream.max_subscriptions` are open.
    TooManySubscriptions = "too_many_subscriptions";
    /// There are `tasks.capacity` tasks.
    TooManyTasks = "too_many_tasks";
    /// A session id is needed.
    SessionRequired = "session_required";
    /// Another of the ten minted the session id.
    OtherInstance = "other_instance";
    /// Another replica minted it.
    OtherReplica = "other_replica";
    /// It was minted before the last start.
    EarlierBoot = "earlier_boot";
    /// The session was idle for too long.
    Expired = "expired";
    /// The session was ended.
    Terminated = "terminated";
    /// There is no such session.
    Unknown = "unknown";
    /// `session.capacity` sessions are live.
    Full = "full";
    /// The server is stopping.
    Draining = "draining";
    /// The session store could not be asked.
    StoreUnavailable = "store_unavailable";
    /// The session has `session.max_streams` streams open.
    TooManyStreams = "too_many_streams";
    /// A header stands there twice, or is no text.
    BadHeader = "bad_header";
    /// A revision that is not served.
    UnsupportedVersion = "unsupported_version";
    /// The client takes neither form of answer.
    NotAcceptable = "not_acceptable";
    /// The body is not declared as JSON.
    UnsupportedMediaType = "unsupported_media_type";
    /// The body is too large.
    BodyTooLarge = "body_too_large";
    /// The body took too long.
    BodyTimeout = "body_timeout";
    /// The body ended before its end.
    BodyBroken = "body_broken";
    /// The endpoint does not take the HTTP method.
    MethodNotAllowed = "method_not_allowed";
    /// Our fault.
    Internal = "internal";
}

impl RequestOutcome {
    /// Position in [`RequestOutcome::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// What a tool's result comes to.
    pub const fn of_tool(is_error: bool) -> Self {
        if is_error { Self::ToolError } else { Self::Ok }
    }

    /// What it comes to in the end: what was noted, unless the client left; else what the status says.
    pub const fn settled(noted: Option<Self>, complete: bool, status: u16) -> Self {
        match (complete, noted) {
            (false, _) => Self::ClientGone,
            (true, Some(noted)) => noted,
            (true, None) if status < 400 => Self::Ok,
            // A panic, which nobody is left to note.
            (true, None) if status == 500 => Self::Internal,
            (true, None) => Self::Refused,
        }
    }

    /// Whether the server did not do what it was asked.
    pub const fn is_refusal(self) -> bool {
        match self {
            Self::Ok
            | Self::ToolError
            | Self::InputRequired
            | Self::Cancelled
            | Self::ClientGone => false,
            Self::Refused
            | Self::Unauthorized
            | Self::ForeignOrigin
            | Self::NotJson
            | Self::NotAMessage
            | Self::MethodNotFound
            | Self::InvalidParams
            | Self::UnknownTool
            | Self::ResourceNotFound
            | Self::MissingCapability
            | Self::BadMeta
            | Self::HeaderMismatch
            | Self::UnsupportedRevision
            | Self::TooManySubscriptions
            | Self::TooManyTasks
            | Self::SessionRequired
            | Self::OtherInstance
            | Self::OtherReplica
            | Self::EarlierBoot
            | Self::Expired
            | Self::Terminated
            | Self::Unknown
            | Self::Full
            | Self::Draining
            | Self::StoreUnavailable
            | Self::TooManyStreams
            | Self::BadHeader
            | Self::UnsupportedVersion
            | Self::NotAcceptable
            | Self::UnsupportedMediaType
            | Self::BodyTooLarge
            | Self::BodyTimeout
            | Self::BodyBroken
            | Self::MethodNotAllowed
            | Self::Internal => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_place_and_a_name_of_its_own() {
        for (place, outcome) in RequestOutcome::ALL.iter().enumerate() {
            assert_eq!(outcome.index(), place);
            let alike = RequestOutcome::ALL.iter().filter(|o| o.as_str() == outcome.as_str());
            assert_eq!(alike.count(), 1, "{outcome:?}");
        }
    }
}
