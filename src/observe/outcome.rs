//! How a request went, in one word.
//!
//! Owns [`RequestOutcome`], the closed set of words that the log and the metrics use. Nothing that a client says can
//! become a label, because whoever notes an outcome names a variant.
//! Trap: whether the client left is known only at the end, whatever was noted before.

macro_rules! outcomes {
    (
        answered { $($(#[$done_doc:meta])* $done:ident = $done_name:literal;)+ }
        refused { $($(#[$doc:meta])* $variant:ident = $name:literal;)+ }
    ) => {
        /// How a request went.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RequestOutcome {
            $(#[doc = $done_name] $(#[$done_doc])* $done,)+
            $(#[doc = $name] $(#[$doc])* $variant,)+
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
        Ok = "ok";
        /// The tool ran and returned `isError`.
        ToolError = "tool_error";
        InputRequired = "input_required";
        /// The client cancelled its request.
        Cancelled = "cancelled";
        /// The client disconnected before the end of the answer.
        ClientGone = "client_gone";
    }
    refused {
        /// Refused by a capability, or before MCP, for a reason without a name of its own.
        Refused = "refused";
        Unauthorized = "unauthorized";
        /// A web page of an origin that may not call.
        ForeignOrigin = "foreign_origin";
        NotJson = "not_json";
        NotAMessage = "not_a_message";
        MethodNotFound = "method_not_found";
        InvalidParams = "invalid_params";
        UnknownTool = "unknown_tool";
        ResourceNotFound = "resource_not_found";
        MissingCapability = "missing_capability";
        /// `_meta` lacks a member that it must have.
        BadMeta = "bad_meta";
        /// A header contradicts the body.
        HeaderMismatch = "header_mismatch";
        /// A stateless revision that is not served.
        UnsupportedRevision = "unsupported_revision";
        /// `stream.max_subscriptions` are open.
        TooManySubscriptions = "too_many_subscriptions";
        /// There are `tasks.capacity` tasks.
        TooManyTasks = "too_many_tasks";
        SessionRequired = "session_required";
        /// The session id was minted by another of the ten.
        OtherInstance = "other_instance";
        OtherReplica = "other_replica";
        /// The session id was minted before the last start.
        EarlierBoot = "earlier_boot";
        Expired = "expired";
        Terminated = "terminated";
        Unknown = "unknown";
        /// `session.capacity` sessions are live.
        Full = "full";
        /// What clients make the server hold is as much as may be.
        NoMemory = "no_memory";
        /// As many calls are under way as may be.
        TooManyCalls = "too_many_calls";
        Draining = "draining";
        /// The server stopped while it was being answered.
        CutOff = "cut_off";
        StoreUnavailable = "store_unavailable";
        /// The session has `session.max_streams` streams open.
        TooManyStreams = "too_many_streams";
        /// A header appears twice, or is not text.
        BadHeader = "bad_header";
        /// A revision with sessions that is not served.
        UnsupportedVersion = "unsupported_version";
        NotAcceptable = "not_acceptable";
        UnsupportedMediaType = "unsupported_media_type";
        BodyTooLarge = "body_too_large";
        BodyTimeout = "body_timeout";
        /// The connection broke within the body.
        BodyBroken = "body_broken";
        /// `Transfer-Encoding` names more than `chunked`.
        UnknownTransferCoding = "unknown_transfer_coding";
        MethodNotAllowed = "method_not_allowed";
        Internal = "internal";
    }
}

impl RequestOutcome {
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
        }
    }
}
