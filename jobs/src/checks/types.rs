//! Types of twins: model, streams, functions and terms, checked by the components themselves.

use indexmap::IndexMap;
use operators::bus::Bus;
use operators::decode::{DecodeSettings, Route, StreamPlan, StreamSettings, TopicPattern};
use operators::entanglement::Terms;
use operators::functions::{FunctionSpec, Functions};
use operators::model::STREAMS_MAX;
use operators::model::{self, Model};
use operators::problem::Problem;
use operators::shadowing::ClockLimits;
use operators::twin::{StreamOf, TwinType};

use super::{Found, connections, functions};
use crate::definition::{ConnectionSettings, Definition, TypeSettings};

/// Compiles all types, and the routes of each source.
pub(super) fn compile(
    definition: &Definition,
    sources: &[String],
    found: &mut Found,
) -> (Vec<TwinType>, Vec<Vec<Route>>) {
    let mut routes = vec![Vec::new(); sources.len()];
    let mut types = Vec::new();
    if definition.types.is_empty() && !definition.unread.contains("types") {
        let help = "add a type of twin, as in examples/first.yaml";
        found.error(Problem::new("the job has no type", help).under("types"));
    }
    for (name, settings) in &definition.types {
        let mut compiler = Compiler { definition, name, settings, sources, found };
        types.extend(compiler.compile(types.len() as u16, &mut routes));
    }
    (types, routes)
}

/// Two types that claim one topic make two twins of one device, which is seldom meant.
pub(super) fn check_shared_topics(
    definition: &Definition,
    types: &[TwinType],
    routes: &[Vec<Route>],
    found: &mut Found,
) {
    for routes in routes {
        for (index, route) in routes.iter().enumerate() {
            let shared = routes[..index]
                .iter()
                .find(|other| other.twin_type != route.twin_type && route.plan.claims_what(&other.plan));
            let Some(shared) = shared else { continue };
            let (mine, other) = (&types[usize::from(route.twin_type)], &types[usize::from(shared.twin_type)]);
            // What is of presence stands beside the streams.
            let Some(stream) = mine.streams.get(usize::from(route.stream)) else { continue };
            let stream = &stream.name;
            if !definition.types.contains_key(&mine.name) {
                continue;
            }
            found.warning(
                Problem::new(
                    format!("type `{}` claims topics of type `{}`", mine.name, other.name),
                    "a twin has one type: the first that is heard; give the types different topics",
                )
                .under("topics")
                .under(stream)
                .under("physical")
                .under(&mine.name)
                .under("types"),
            );
        }
    }
}

struct Compiler<'a> {
    definition: &'a Definition,
    name: &'a str,
    settings: &'a TypeSettings,
    sources: &'a [String],
    found: &'a mut Found,
}

impl Compiler<'_> {
    fn compile(&mut self, twin_type: u16, routes: &mut [Vec<Route>]) -> Option<TwinType> {
        let model = self.model()?;
        let streams = self.streams(&model);
        let presence = self.presence();
        let functions = self.functions(&model);
        let terms = self.terms(&model);
        let (functions, terms) = (functions?, terms?);
        let mut twin_type_sources = Vec::new();
        let mut named = Vec::new();
        for (stream, (name, source, plan)) in streams.into_iter().enumerate() {
            if !twin_type_sources.contains(&source) {
                twin_type_sources.push(source);
            }
            named.push(StreamOf { name, source });
            routes[usize::from(source)].push(Route { twin_type, stream: stream as u16, plan });
        }
        let presence = presence.map(|(source, plan)| {
            routes[usize::from(source)].push(Route { twin_type, stream: named.len() as u16, plan });
            StreamOf { name: "presence".to_owned(), source }
        });
        Some(TwinType {
            name: self.name.to_owned(),
            model,
            clock: ClockLimits::from(&self.settings.entanglement.clock),
            functions,
            terms,
            sources: twin_type_sources,
            streams: named,
            presence,
        })
    }

    fn error(&mut self, problem: Problem) {
        self.found.error(problem.under(self.name).under("types"));
    }

    fn is_unread(&self, part: &str) -> bool {
        self.definition.unread.contains(&format!("types.{}.{part}", self.name))
    }

    /// The model; none where it is wrong, or was not read whole: what it lacks would be held
    /// against streams and functions.
    fn model(&mut self) -> Option<Model> {
        match model::compile(&self.settings.model) {
            Ok(model) => {
                let is_whole = !self.is_unread("properties") && !self.is_unread("events");
                is_whole.then_some(model)
            }
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.error(problem));
                None
            }
        }
    }

    /// Name, number of the source, and plan of each stream that is good.
    fn streams(&mut self, model: &Model) -> Vec<(String, u16, StreamPlan)> {
        let settings = self.settings;
        let under = |problem: Problem, stream: &str| problem.under(stream).under("physical");
        if settings.physical.is_empty() && !self.is_unread("physical") {
            let help = "add `physical:` with a stream, or remove the type";
            self.error(Problem::new("the type has no stream: its twins would never live", help));
        }
        if settings.physical.len() > STREAMS_MAX {
            let message = format!("{} streams, at most {STREAMS_MAX}", settings.physical.len());
            self.error(Problem::new(message, "split the type in two").under("physical"));
        }
        let mut streams = Vec::new();
        for (name, stream) in &settings.physical {
            if let Some(problem) = connections::unknown(self.definition, &stream.from) {
                self.error(under(problem.under("from"), name));
            }
            if let Some(ConnectionSettings::Webhook(_)) = self.definition.connections.get(&stream.from) {
                let message = format!("`{}` is a webhook, which nothing comes from", stream.from);
                let problem = Problem::new(message, "read from an mqtt, kafka or file connection");
                self.error(under(problem.under("from"), name));
            }
            if let Some(problem) = no_sparkplug(self.definition, stream) {
                self.error(under(problem.under("from"), name));
            }
            let topics = stream.topics.iter().enumerate();
            for (index, topic) in topics.filter(|(_, topic)| is_shared(self.definition, stream, topic)) {
                let message =
                    format!("`{topic}` is shared: the broker deals a twin's messages out among the group");
                let help = "take it for messages whose order does not matter: others of the group may have the ones \
                            between, so that the order of a twin's messages is not kept, and R counts what came here";
                let problem = Problem::new(message, help).under(index.to_string()).under("topics");
                self.found.warning(under(problem, name).under(self.name).under("types"));
            }
            match self.stream(stream, model) {
                Ok(plan) => {
                    let source = self.sources.iter().position(|source| *source == stream.from);
                    streams.extend(source.map(|source| (name.clone(), source as u16, plan)));
                }
                Err(problem) => self.error(under(problem, name)),
            }
        }
        streams
    }

    /// A stream's plan. Where it is not known by which bus it comes, it is held to that which takes it.
    fn stream(&self, stream: &StreamSettings, model: &Model) -> Result<StreamPlan, Problem> {
        let compile = |bus| StreamPlan::compile(stream, model, bus);
        match self.definition.connections.get(&stream.from) {
            Some(connection) => compile(connection.bus()),
            None => compile(Bus::Levels).or_else(|problem| compile(Bus::Records).map_err(|_| problem)),
        }
    }

    fn functions(&mut self, model: &Model) -> Option<Functions> {
        let mapped = mapped(self.settings.physical.values(), model);
        let mut specs: IndexMap<String, FunctionSpec> = IndexMap::new();
        let mut are_good = true;
        for (name, function) in &self.settings.augmentation {
            let spec = functions::spec(function).map(|spec| specs.insert(name.clone(), spec));
            if let Err(problem) = spec.and_then(|_| functions::check(function)) {
                self.error(problem.under(name).under("augmentation"));
                are_good = false;
            }
        }
        match Functions::compile(&specs, model, &mapped) {
            Ok(functions) => self.with_shadowing(functions).filter(|_| are_good),
            Err(problems) => {
                for problem in problems {
                    self.error(problem.under("augmentation"));
                }
                None
            }
        }
    }

    fn with_shadowing(&mut self, functions: Functions) -> Option<Functions> {
        let Some(function) = &self.settings.shadow else { return Some(functions) };
        let checked = functions::check(function).and_then(|()| functions::spec(function));
        match checked.and_then(|spec| functions.with_shadowing(&spec)) {
            Ok(functions) => Some(functions),
            Err(problem) => {
                self.error(problem.under("shadow"));
                None
            }
        }
    }

    /// The source that presence comes from, and its plan.
    fn presence(&mut self) -> Option<(u16, StreamPlan)> {
        let settings = self.settings.presence.as_ref()?;
        if let Some(problem) = connections::unknown(self.definition, &settings.from) {
            self.error(problem.under("from").under("presence"));
            return None;
        }
        let connection = self.definition.connections.get(&settings.from)?;
        if let ConnectionSettings::Webhook(_) = connection {
            let message = format!("`{}` is a webhook, which nothing comes from", settings.from);
            let problem = Problem::new(message, "read from an mqtt, kafka or file connection");
            self.error(problem.under("from").under("presence"));
            return None;
        }
        let source = self.sources.iter().position(|source| *source == settings.from)?;
        match StreamPlan::compile_presence(settings, connection.bus()) {
            Ok(plan) => Some((source as u16, plan)),
            Err(problem) => {
                self.error(problem.under("presence"));
                None
            }
        }
    }

    fn terms(&mut self, model: &Model) -> Option<Terms> {
        let mut rates = Vec::new();
        for (name, stream) in &self.settings.physical {
            match stream.expected_rate.resolve(model) {
                Ok(rate) => rates.push(rate),
                Err(problem) => {
                    self.error(problem.under("expected_rate").under(name).under("physical"));
                    return None;
                }
            }
        }
        let settings = &self.settings.entanglement;
        let terms = Terms::compile(settings, &rates);
        match terms.and_then(|terms| terms.with_overrides(settings, model)) {
            Ok(terms) => {
                for warning in terms.warnings() {
                    let warning = warning.under("window").under("entanglement");
                    self.found.warning(warning.under(self.name).under("types"));
                }
                Some(terms)
            }
            Err(problem) => {
                self.error(problem.under("entanglement"));
                None
            }
        }
    }
}

/// The problem with a stream of Sparkplug that comes by something else than MQTT: edge nodes are answered there.
fn no_sparkplug(definition: &Definition, stream: &StreamSettings) -> Option<Problem> {
    let is_other = matches!(definition.connections.get(&stream.from), Some(ConnectionSettings::File(_)));
    (is_other && stream.decode == DecodeSettings::SparkplugB).then(|| {
        let message = format!("Sparkplug comes by MQTT, and `{}` is a file", stream.from);
        Problem::new(message, "read it from an mqtt connection")
    })
}

/// Whether a topic of a stream is dealt out among a group.
pub(crate) fn is_shared(definition: &Definition, stream: &StreamSettings, topic: &str) -> bool {
    let connection = definition.connections.get(&stream.from);
    let pattern = connection.and_then(|connection| TopicPattern::parse(topic, connection.bus()).ok());
    pattern.is_some_and(|pattern| pattern.group().is_some())
}

/// Numbers of the properties that streams write.
fn mapped<'a>(streams: impl Iterator<Item = &'a StreamSettings>, model: &Model) -> Vec<u16> {
    let mut mapped = Vec::new();
    for stream in streams {
        for property in stream.properties.keys().filter_map(|name| model.property(name)) {
            if !mapped.contains(&property) {
                mapped.push(property);
            }
        }
    }
    mapped
}
