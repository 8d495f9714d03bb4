//! The interfaces and schemas that a model may name: those of its file, and those of a model repository around it,
//! where `dtmi:com:example:Thermostat;1` is the file `dtmi/com/example/thermostat-1.json`.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use indexmap::IndexMap;

use super::super::files::{Files, Wrong};
use super::super::json::{Json, Value};

/// How the context of the language begins.
const CONTEXT: &str = "dtmi:dtdl:context;";
/// Versions of the language that are read.
const VERSIONS: [&str; 2] = ["2", "3"];
/// What schemas that have names may be.
const SCHEMAS: [&str; 4] = ["Array", "Enum", "Map", "Object"];

/// Interfaces and schemas, by their ids.
pub(super) struct Library<'a> {
    files: &'a mut Files,
    /// The folder in which `dtmi` is.
    root: PathBuf,
    interfaces: IndexMap<String, Rc<Json>>,
    schemas: IndexMap<String, Rc<Json>>,
}

impl<'a> Library<'a> {
    /// An empty one, for the file at this path.
    pub fn new(files: &'a mut Files, path: &Path) -> Self {
        let is_repository = |folder: &&Path| folder.file_name().is_some_and(|name| name == "dtmi");
        let repository = path.ancestors().skip(1).find(is_repository).and_then(Path::parent);
        let root = repository.or(path.parent()).unwrap_or(Path::new("")).to_owned();
        Self { files, root, interfaces: IndexMap::new(), schemas: IndexMap::new() }
    }

    /// Ids of all interfaces.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.interfaces.keys().map(String::as_str)
    }

    /// Takes in what a file has.
    pub fn add(&mut self, file: usize) -> Result<(), Wrong> {
        let root = self.files.get(file).root.clone();
        for interface in root.items() {
            if !is_a(interface, "Interface") {
                let place = interface.get("@type").map_or(interface.place, |one| one.place);
                let help = "a file has one Interface or a list of them: {\"@type\": \"Interface\", ..}";
                return Err(Wrong::new(place, "this is no Interface", help));
            }
            check_context(interface)?;
            if id_of(interface).is_empty() {
                let help = "add \"@id\": \"dtmi:com:example:Thermostat;1\"";
                return Err(Wrong::new(interface.place, "the Interface has no `@id`", help));
            }
            self.collect(interface)?;
        }
        match self.interfaces.is_empty() {
            true => Err(Wrong::new(root.place, "the file has no Interface", "add one, or name another file")),
            false => Ok(()),
        }
    }

    /// Takes in a value, and what stands in it.
    fn collect(&mut self, json: &Json) -> Result<(), Wrong> {
        let id = id_of(json);
        if !id.is_empty() && is_a(json, "Interface") {
            let known = self.interfaces.insert(id.clone(), Rc::new(json.clone()));
            if known.is_some() {
                let place = json.get("@id").map_or(json.place, |one| one.place);
                return Err(Wrong::new(place, format!("`{id}` stands here twice"), "rename or remove one"));
            }
        } else if !id.is_empty() && SCHEMAS.iter().any(|class| is_a(json, class)) {
            self.schemas.insert(id, Rc::new(json.clone()));
        }
        match &json.value {
            Value::List(items) => items.iter().try_for_each(|item| self.collect(item)),
            _ => json.members().iter().try_for_each(|member| self.collect(&member.value)),
        }
    }

    /// An interface that was taken in.
    pub fn known(&self, id: &str) -> Option<Rc<Json>> {
        self.interfaces.get(id).cloned()
    }

    /// A schema that has this id.
    pub fn schema(&self, id: &str) -> Option<Rc<Json>> {
        self.schemas.get(id).cloned()
    }

    /// An interface, which is looked for in the repository where it was not taken in.
    pub fn find(&mut self, id: &str) -> Result<Option<Rc<Json>>, Wrong> {
        if !self.interfaces.contains_key(id)
            && let Some(path) = path_of(id).map(|path| self.root.join(path)).filter(|path| path.is_file())
        {
            let file = self.files.open(&path)?;
            self.add(file)?;
        }
        Ok(self.known(id))
    }

    /// What to do about an interface that is not there.
    pub fn help(&self, id: &str) -> String {
        match path_of(id) {
            Some(path) => format!("add it to the file, or as {}", self.root.join(path).display()),
            None => "write an id such as dtmi:com:example:Thermostat;1".to_owned(),
        }
    }
}

fn check_context(interface: &Json) -> Result<(), Wrong> {
    let first = interface.items_of("@context").first();
    let version = first.and_then(Json::text).and_then(|text| text.strip_prefix(CONTEXT));
    let help = "write \"@context\": \"dtmi:dtdl:context;3\", first where there are several";
    match version {
        Some(version) if VERSIONS.contains(&version) => Ok(()),
        Some(version) => {
            let place = first.map_or(interface.place, |one| one.place);
            Err(Wrong::new(place, format!("version {version} of DTDL is not read, 2 and 3 are"), help))
        }
        None => {
            let place = first.map_or(interface.place, |one| one.place);
            Err(Wrong::new(place, "the Interface does not say that it is of DTDL", help))
        }
    }
}

/// The id of an element; empty where it has none.
pub(super) fn id_of(json: &Json) -> String {
    json.text_of("@id").unwrap_or_default().to_owned()
}

/// Whether an element is of a class.
pub(super) fn is_a(json: &Json, class: &str) -> bool {
    json.items_of("@type").iter().any(|one| one.text().is_some_and(|text| term(text) == class))
}

/// The word of the language that an identifier of it stands for: `dtmi:dtdl:class:Telemetry;3` is `Telemetry`.
pub(super) fn term(text: &str) -> &str {
    match text.starts_with("dtmi:dtdl:") || text.starts_with("dtmi:standard:") {
        true => text.split(';').next().unwrap_or(text).rsplit(':').next().unwrap_or(text),
        false => text,
    }
}

/// Where an interface stands in a repository.
fn path_of(id: &str) -> Option<PathBuf> {
    let (path, version) = id.split_once(';')?;
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let is_good =
        path.split(':').all(is_word) && path.starts_with("dtmi:") && version.split('.').all(is_word);
    is_good.then(|| PathBuf::from(format!("{}-{version}.json", path.replace(':', "/")).to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_places_in_a_repository() {
        for (id, path) in [
            ("dtmi:com:example:Thermostat;1", Some("dtmi/com/example/thermostat-1.json")),
            (
                "dtmi:azure:DeviceManagement:DeviceInformation;1.2",
                Some("dtmi/azure/devicemanagement/deviceinformation-1.2.json"),
            ),
            ("dtmi:com:example:Thermostat", None),
            ("dtmi:..:secret;1", None),
            ("urn:com;1", None),
            ("dtmi:a/b;1", None),
        ] {
            assert_eq!(path_of(id), path.map(PathBuf::from), "{id}");
        }
    }
}
