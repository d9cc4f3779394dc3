//! How a request went, in one word, and in a few more.
//!
//! Owns [`RequestOutcome`], the closed set of words that the log and the metrics use, and what each means to an operator.
//! Nothing that a client says can become a label, because whoever notes an outcome names a variant.
//! Trap: whether the client left is known only at the end, whatever was noted before.

macro_rules! outcomes {
    (
        answered { $($(#[$done_doc:meta])* $done:ident = $done_name:literal: $done_why:literal;)+ }
        refused { $($(#[$doc:meta])* $variant:ident = $name:literal: $why:literal;)+ }
    ) => {
        /// How a request went.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RequestOutcome {
            $(#[doc = $done_why] $(#[$done_doc])* $done,)+
            $(#[doc = $why] $(#[$doc])* $variant,)+
        }

        impl RequestOutcome {
            /// Every outcome, in the order of the enum.
            pub const ALL: &[Self] = &[$(Self::$done,)+ $(Self::$variant),+];

            /// As it stands in the log and in metrics.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$done => $done_name,)+
                    $(Self::$variant => $name,)+
                }
            }

            const fn why(self) -> &'static str {
                match self {
                    $(Self::$done => $done_why,)+
                    $(Self::$variant => $why,)+
                }
            }

            /// Whether the server did not do what it was asked.
            pub(crate) const fn is_refusal(self) -> bool {
                match self {
                    $(Self::$done => false,)+
                    $(Self::$variant => true,)+
                }
            }
        }
    };
}

outcomes! {
    answered {
        Ok = "ok": "it was answered";
        ToolError = "tool_error": "the tool ran and answered with an error (isError)";
        InputRequired = "input_required": "the tool asked its client for input";
        Cancelled = "cancelled": "its client cancelled it";
        ClientGone = "client_gone": "its client disconnected before the end of the answer";
    }
    refused {
        /// Refused by a capability, or before MCP, for a reason without a name of its own.
        Refused = "refused": "it was refused";
        Unauthorized = "unauthorized": "no bearer token that is accepted here (auth.mode)";
        ForeignOrigin = "foreign_origin": "a web page of an origin that may not call (origin.allowed)";
        NotJson = "not_json": "the body is not JSON";
        NotAMessage = "not_a_message": "the body is not a JSON-RPC message";
        MethodNotFound = "method_not_found": "this revision has no such method";
        InvalidParams = "invalid_params": "the parameters or arguments do not fit";
        UnknownTool = "unknown_tool": "there is no such tool here";
        ResourceNotFound = "resource_not_found": "there is no such resource for this caller";
        MissingCapability = "missing_capability": "the client has not declared a capability that this needs";
        BadMeta = "bad_meta": "_meta lacks the version or the capabilities";
        HeaderMismatch = "header_mismatch": "a header does not say what the body says";
        /// A stateless revision that is not served.
        UnsupportedRevision = "unsupported_revision": "the revision is not served here, or by sessions alone";
        TooManySubscriptions = "too_many_subscriptions": "as many subscriptions are open as may be";
        TooManyTasks = "too_many_tasks": "there are as many tasks as may be (tasks.capacity)";
        SessionRequired = "session_required": "no Mcp-Session-Id where one is needed";
        OtherInstance = "other_instance": "another instance minted this session id";
        OtherReplica = "other_replica": "another replica minted this session id";
        EarlierBoot = "earlier_boot": "this session was lost when the server was last started";
        Expired = "expired": "this session was idle for too long";
        Terminated = "terminated": "this session had been ended";
        Unknown = "unknown": "no such session: never given out, another caller's, or ended long ago";
        Full = "full": "as many sessions are live as may be (session.capacity)";
        NoMemory = "no_memory": "clients hold as much memory as they may (memory)";
        TooManyCalls = "too_many_calls": "as many calls are under way as may be";
        Draining = "draining": "the server is stopping and takes no new session";
        CutOff = "cut_off": "the server stopped and could not wait for the end";
        StoreUnavailable = "store_unavailable": "the session store could not be reached";
        TooManyStreams = "too_many_streams": "the session has as many streams open as it may (session.max_streams)";
        BadHeader = "bad_header": "a header appears twice, or is not text";
        /// A revision with sessions that is not served.
        UnsupportedVersion = "unsupported_version": "the protocol version is not served here";
        NotAcceptable = "not_acceptable": "Accept takes neither JSON nor events";
        UnsupportedMediaType = "unsupported_media_type": "Content-Type is not JSON in UTF-8, or the body is encoded";
        BodyTooLarge = "body_too_large": "the body is too large (http.max_body_bytes)";
        BodyTimeout = "body_timeout": "the body came too slowly (http.body_timeout_seconds)";
        BodyBroken = "body_broken": "the body broke off";
        UnknownTransferCoding = "unknown_transfer_coding": "Transfer-Encoding names more than chunked";
        MethodNotAllowed = "method_not_allowed": "the path does not take this HTTP method";
        Internal = "internal": "the server failed: its log says how";
    }
}

impl RequestOutcome {
    /// As an operator is told of a request with this status. What was refused before MCP has no name of its own.
    pub(crate) const fn in_words(self, status: u16) -> &'static str {
        match (self, status) {
            (Self::Refused, 400) => "no host, two hosts or no host name; or a header stands twice",
            (Self::Refused, 404) => "nothing is served at this path",
            (Self::Refused, 405) => "the path does not take this HTTP method",
            (Self::Refused, 421) => {
                "this host is not served here (hosts.front_door_names lets it in)"
            }
            (Self::Refused, 431) => "the head of the request is too large",
            (Self::Refused, 503) => "as many connections are open as may be (http.max_connections)",
            (outcome, _) => outcome.why(),
        }
    }

    pub(crate) const fn of_tool(is_error: bool) -> Self {
        if is_error { Self::ToolError } else { Self::Ok }
    }

    /// The final outcome: the noted one unless the client left, or the server `stops`; if none was noted, the status
    /// decides.
    pub(crate) const fn settled(
        noted: Option<Self>,
        complete: bool,
        stops: bool,
        status: u16,
    ) -> Self {
        match (complete, noted) {
            (false, _) if stops => Self::CutOff,
            (false, _) => Self::ClientGone,
            (true, Some(noted)) => noted,
            (true, None) if status < 400 => Self::Ok,
            // A panic, of which nobody could note the outcome.
            (true, None) if status == 500 => Self::Internal,
            (true, None) => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_place_and_a_name_of_its_own() {
        for (place, outcome) in RequestOutcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, place);
            let alike = RequestOutcome::ALL.iter().filter(|o| o.as_str() == outcome.as_str());
            assert_eq!(alike.count(), 1, "{outcome:?}");
            let alike = RequestOutcome::ALL.iter().filter(|o| o.in_words(0) == outcome.in_words(0));
            assert_eq!(alike.count(), 1, "{outcome:?}");
        }
    }
}
