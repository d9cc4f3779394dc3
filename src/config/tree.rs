//! How the tree of keys is declared: by one macro, so that each section and each key stands in one place.
//!
//! Owns [`tree`], with all that lists the sections, and the word that each key has: [`Reload`]. A key without one does not
//! compile. Trap: serde's texts name these types; what the operator reads is worded in `describe`.

/// What a running server does with a changed value when it reads its configuration again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Goes by the new value from then on: it is part of what a reload replaces (policies, host table, timing).
    Live,
    /// Goes by the new value, handed to what a reload keeps: sessions, replay logs, tasks, connections, the log.
    Pushed,
    /// Keeps the value of its start, for this reason.
    Restart(&'static str),
}

/// A key of `config/default.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// With its section: `session.capacity`.
    pub path: &'static str,
    /// How a reload takes it.
    pub reload: Reload,
}

/// The type of one section, and its keys.
macro_rules! section {
    ($section:ident: $Section:ident { $($key:ident: $type:ty => $reload:expr,)+ }) => {
        #[doc = concat!("`[", stringify!($section), "]` of `config/default.toml`.")]
        #[derive(Clone, Debug, PartialEq, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(missing_docs, reason = "config/default.toml says what each key means")]
        pub struct $Section { $(pub $key: $type,)+ }

        impl $Section {
            const KEYS: &[Key] = &[$(Key {
                path: concat!(stringify!($section), ".", stringify!($key)),
                reload: $reload,
            },)+];
        }
    };
}

/// All that lists the sections: the configuration, an instance's policy, the document as it is read, the table of keys.
macro_rules! tree {
    (
        $flag:ident: $flag_type:ty => $flag_reload:expr,
        process { $($process:ident: $Process:ident $process_keys:tt)+ }
        policy { $($policy:ident: $Policy:ident $policy_keys:tt)+ }
    ) => {
        $(section! { $process: $Process $process_keys })+
        $(section! { $policy: $Policy $policy_keys })+

        impl Key {
            /// Every key, by section.
            pub fn all() -> impl Iterator<Item = &'static Self> {
                const FLAG: &[Key] = &[Key { path: stringify!($flag), reload: $flag_reload }];
                [FLAG, $($Process::KEYS,)+ $($Policy::KEYS,)+].into_iter().flatten()
            }
        }

        /// The sections that `[instances.N.*]` may change for one instance.
        pub const POLICY_SECTIONS: &[&str] = &[$(stringify!($policy)),+];

        /// Everything that an operator can say.
        #[derive(Clone, Debug)]
        #[expect(missing_docs, reason = "config/default.toml says what each section means")]
        pub struct Config {
            pub $flag: $flag_type,
            $(pub $process: $Process,)+
            /// The policy of each of the ten instances, `[instances.N]` applied.
            pub instances: Vec<PolicyConfig>,
            /// What lies beneath all of it, above the defaults.
            pub profile: Option<&'static Profile>,
        }

        /// One instance's policy.
        #[derive(Clone, Debug, PartialEq, Deserialize)]
        #[expect(missing_docs, reason = "config/default.toml says what each section means")]
        pub struct PolicyConfig { $(pub $policy: $Policy,)+ }

        /// The whole document.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Written {
            $flag: $flag_type,
            $($process: $Process,)+
            $($policy: $Policy,)+
            #[serde(default)]
            instances: BTreeMap<InstanceId, Overrides>,
        }

        impl Written {
            /// The policy of an instance that has no section of its own.
            fn policy(&self) -> PolicyConfig {
                PolicyConfig { $($policy: self.$policy.clone(),)+ }
            }

            /// The configuration, once every instance has its policy.
            fn with(
                self,
                instances: Vec<PolicyConfig>,
                profile: Option<&'static Profile>,
            ) -> Config {
                Config { $flag: self.$flag, $($process: self.$process,)+ instances, profile }
            }
        }

        /// `[instances.N]`: which sections it may hold. What is in them is read where they are applied.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "it is there to refuse any other section")]
        struct Overrides { $($policy: Option<Dict>,)+ }
    };
}

pub(super) use {section, tree};
