//! The layers: embedded defaults < profile < file < environment < flags, and on top of them what an instance has to itself.
//!
//! Owns [`Layers`]: reading them, printing what is in force, and checking it. Refuses unknown keys and values that
//! cannot work, with one line that names the key, the value and where it came from.

use std::path::PathBuf;

use figment::{
    Figment, Metadata, Provider,
    providers::{Format, Toml},
    value::Dict,
};

use super::{
    Config, ConfigError, DEFAULTS, LogFormat, PolicyConfig, Profile, Written,
    checks::{self, Rule},
    describe::{describe, display, entry_of, key_of, leaves, origin_name},
    file,
    source::{self, Variables},
};
use crate::{
    id::InstanceId,
    wire::{Era, ProtocolVersion},
};

/// What the command line says about configuration.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--profile`
    pub profile: Option<String>,
    /// `--config`
    pub file: Option<PathBuf>,
    /// `--host`
    pub host: Option<String>,
    /// `--port`
    pub port: Option<u16>,
}

/// The layers, merged but not yet checked: what `config print` shows.
#[derive(Debug)]
pub struct Layers {
    pub(super) figment: Figment,
    pub(super) profile: Option<&'static Profile>,
}

impl Layers {
    /// Those of this process: its environment and its flags.
    pub fn of_process(flags: &Flags) -> Result<Self, ConfigError> {
        Self::read(flags, &std::env::vars_os().collect::<Vec<_>>())
    }

    /// The same with the environment as an argument.
    pub fn merge(flags: &Flags, variables: &[(String, String)]) -> Result<Self, ConfigError> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        Self::read(flags, &variables.collect::<Vec<_>>())
    }

    fn read(flags: &Flags, variables: &Variables) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        let defaults: Dict = figment.extract().map_err(|error| describe(&error, None))?;
        let profile = profile_of(flags, variables)?;
        if let Some(Profile { name, text }) = profile {
            let (text, name) = ((*text).to_owned(), format!("profile {name}"));
            figment = figment.merge(TomlFile { text, name });
        }
        if let Some(file) = TomlFile::read(flags, variables)? {
            figment = figment.merge(file);
        }
        let host = flags.host.as_deref();
        let host = host.map(|host| source::Setting::flag("--host", "server.host", host));
        let port = flags.port.map(|port| source::Setting::flag("--port", "server.port", port));
        let of_flags: Vec<_> = host.into_iter().chain(port).collect();
        let set: Vec<_> = of_flags.iter().map(source::Setting::path).collect();
        for setting in source::environment(variables, &defaults, &set)? {
            figment = figment.merge(setting);
        }
        figment = follow_versions(figment);
        Ok(Self { figment: of_flags.into_iter().fold(figment, Figment::merge), profile })
    }

    /// Every key in force as a line of TOML with its origin, secrets redacted.
    pub fn print(&self) -> Result<String, ConfigError> {
        let mut lines = match self.profile {
            Some(profile) => format!("# profile {}\n", profile.name),
            None => String::new(),
        };
        for (key, value) in leaves(&self.tree(&self.figment)?) {
            let text = display(&key, &value);
            lines.push_str(&format!("{key} = {text}  # {}\n", self.origin(&key)));
        }
        Ok(lines)
    }

    /// Checks everything and gives the configuration.
    pub fn check(&self) -> Result<Config, ConfigError> {
        let written: Written =
            self.figment.extract().map_err(|error| self.describe(&error, &error.path))?;
        // What most instances have is read once.
        let common = written.policy();
        let mut instances = Vec::with_capacity(InstanceId::COUNT);
        for id in InstanceId::all() {
            let policy = match written.instances.contains_key(&id) {
                true => self.policy(id)?,
                false => common.clone(),
            };
            self.require(&checks::of_policy(&policy), Some(id))?;
            instances.push(policy);
        }
        let config = written.with(instances, self.profile);
        self.require(&checks::of_process(&config), None)?;
        Ok(config)
    }

    /// Every value, known or not, of these layers or of those of one instance.
    pub(super) fn tree(&self, figment: &Figment) -> Result<Dict, ConfigError> {
        figment.extract().map_err(|error| self.describe(&error, &error.path))
    }

    /// These layers as one instance has them: its own section is on top.
    pub(super) fn of_instance(&self, id: InstanceId) -> Figment {
        let own = self.figment.focus(&format!("instances.{id}"));
        let merged = match own.extract::<Dict>() {
            Ok(dict) if !dict.is_empty() => self.figment.clone().merge(own),
            Ok(_) | Err(_) => self.figment.clone(),
        };
        follow_versions(merged)
    }

    fn policy(&self, id: InstanceId) -> Result<PolicyConfig, ConfigError> {
        self.of_instance(id).extract().map_err(|error| {
            let instance = ["instances".to_owned(), id.to_string()];
            let own = [&instance[..], &error.path].concat();
            let is_own = self.figment.contains(&key_of(&own));
            self.describe(&error, if is_own { &own } else { &error.path })
        })
    }

    fn describe(&self, error: &figment::Error, path: &[String]) -> ConfigError {
        let key = key_of(path);
        let value = self.figment.find_value(&key).ok().map(|value| entry_of(value, path));
        let value = value.map(|value| display(&key, &value));
        describe(error, Some((key, value)))
    }

    /// Refuses the first value that breaks a rule. What an instance has to itself is told under that name.
    fn require(&self, rules: &[Rule], of: Option<InstanceId>) -> Result<(), ConfigError> {
        let Some((key, _, problem)) = rules.iter().find(|(_, holds, _)| !holds) else {
            return Ok(());
        };
        let own = of.map(|id| format!("instances.{id}.{key}"));
        let own = own.filter(|own| self.figment.contains(own));
        let key = own.as_deref().unwrap_or(key);
        let value =
            self.figment.find_value(key).map(|value| display(key, &value)).unwrap_or_default();
        Err(ConfigError::new(key, &self.origin(key), format!("{value} {problem}")))
    }

    fn origin(&self, key: &str) -> String {
        self.figment.find_metadata(key).map_or_else(|| "default".to_owned(), origin_name)
    }
}

/// The profile that a flag names, or else a variable.
fn profile_of(
    flags: &Flags,
    variables: &Variables,
) -> Result<Option<&'static Profile>, ConfigError> {
    if let Some(name) = &flags.profile {
        return Profile::named(name, "flag --profile").map(Some);
    }
    let named = source::said_by(source::PROFILE_VARIABLE, variables)?;
    named.map(|(name, origin)| Profile::named(name.trim(), &origin)).transpose()
}

/// A file already read, so that "missing" is an error and not an empty layer.
struct TomlFile {
    text: String,
    /// As the origin of its values.
    name: String,
}

impl TomlFile {
    /// The file that a flag names, or else a variable.
    fn read(flags: &Flags, variables: &Variables) -> Result<Option<Self>, ConfigError> {
        let (path, origin) = match &flags.file {
            Some(path) => (path.clone(), "flag --config".to_owned()),
            None => match source::said_by(source::CONFIG_VARIABLE, variables)? {
                Some((path, origin)) => (path.into(), origin),
                None => return Ok(None),
            },
        };
        let text = file::read(&path).map_err(|error| {
            let error = error.to_string();
            // Without the number of the error.
            let why = error.split(" (os error").next().unwrap_or_default();
            let problem = format!("{}: cannot be read: {why}", path.display());
            ConfigError::new("", &origin, problem)
        })?;
        Ok(Some(Self { text, name: path.display().to_string() }))
    }
}

/// What `log.format` asks for, as far as it can be read: for what is said where there is no configuration.
pub fn log_format(flags: &Flags) -> LogFormat {
    let variables: Vec<_> = std::env::vars_os().collect();
    let mut figment = Figment::from(Toml::string(DEFAULTS));
    if let Ok(Some(file)) = TomlFile::read(flags, &variables)
        && file.data().is_ok()
    {
        figment = figment.merge(file);
    }
    if let Some(text) = source::said_of(&variables, "log.format") {
        figment = figment.merge(source::Setting::derived("log.format", text));
    }
    figment.extract_inner("log.format").unwrap_or(LogFormat::Compact)
}

impl Provider for TomlFile {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<figment::value::Map<figment::Profile, Dict>, figment::Error> {
        Toml::string(&self.text).data()
    }
}

/// An operator who narrows the versions need not name the default as well: where it is not among them and
/// nobody set it, the newest with an `initialize` takes its place.
fn follow_versions(figment: Figment) -> Figment {
    let newest = || {
        let versions: Vec<ProtocolVersion> = figment.extract_inner("protocol.versions").ok()?;
        let version: ProtocolVersion = figment.extract_inner("protocol.version").ok()?;
        let origin = figment.find_metadata("protocol.version").map(origin_name)?;
        let unset = ["default", source::DERIVED].contains(&origin.as_str());
        let sessioned = versions.iter().filter(|version| version.era() == Era::Sessioned).max();
        sessioned.filter(|_| unset && !versions.contains(&version)).map(|newest| newest.as_str())
    };
    match newest() {
        Some(newest) => figment.merge(source::Setting::derived("protocol.version", newest)),
        None => figment,
    }
}
