//! `cel`: an expression of the Common Expression Language (github.com/google/cel-spec) over S'.
//!
//! `{cel: "temperature * 1.8 + 32.0"}`. Its variables are the properties that streams map, and the attributes of
//! the roster, by their names (an attribute that the roster does not tell of a twin is `null`); `device_time`, milliseconds since 1970; and `previous`, what it gave before, `null` at first. An enum is
//! its word. It runs once all the properties that it names have a value; what it gives is the value of the
//! property, or of the event, that it is named after. For an event `false` and `null` are none.
//!
//! A worker runs nothing else meanwhile. A loop ends with its list, but loops inside of loops multiply, so what those
//! go over is counted, and has a limit.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr};
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use cel::{Context, Env, ExecutionError, Program};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::result::{Written, Yields};
use super::{Occasion, Target};
use crate::model::{Kind, KindName, Model, Value};
use crate::problem::{Problem, suggestion};
use crate::shadowing::Shadow;

/// Longest expression, in bytes.
const BYTES_MAX: usize = 8_192;
/// Most items that the loops inside of loops of one run go over, about a tenth of a second's work.
const ITEMS_MAX: usize = 100_000;
/// The function around the list that a loop inside of a loop goes over; no user can write its name.
const COUNTED: &str = "@counted";
const DEVICE_TIME: &str = "device_time";
const PREVIOUS: &str = "previous";

/// The expression, as a user writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct CelSettings(pub String);

/// An expression, compiled.
#[derive(Clone)]
pub(super) struct Expression {
    expression: Arc<IdedExpr>,
    /// Whether it has loops inside of loops.
    is_counted: bool,
    env: Arc<Env>,
    text: String,
    /// Properties that it names, with their names.
    pub(super) inputs: Vec<(String, u16)>,
    /// Attributes that it names, with their places.
    attributes: Vec<(String, usize)>,
    pub(super) yields: Yields,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expression").field("text", &self.text).field("yields", &self.yields).finish()
    }
}

impl CelSettings {
    /// Compiles it, or says what is wrong with it. `mapped` are the properties that it may name.
    pub(super) fn compile(
        &self,
        model: &Model,
        mapped: &[u16],
        yields: Yields,
    ) -> Result<Expression, Problem> {
        if self.0.len() > BYTES_MAX {
            let message = format!("the expression has {} bytes, at most {BYTES_MAX}", self.0.len());
            return Err(Problem::new(message, "make it a function of python or wasm"));
        }
        let program = Program::compile(&self.0).map_err(|errors| syntax(&errors))?;
        let (mut inputs, mut attributes) = (Vec::new(), Vec::new());
        let mut own = BTreeSet::new();
        own_variables(program.expression(), &mut own);
        let references = program.references();
        let mut named = references.variables();
        named.sort_unstable();
        for name in named.into_iter().filter(|name| !own.contains(*name) && !is_given(name)) {
            let number = model.property(name).filter(|number| mapped.contains(number));
            let place = || model.attributes.iter().position(|(attribute, _)| attribute == name);
            match (number, place()) {
                (Some(number), _) => inputs.push((name.to_owned(), number)),
                (None, Some(place)) => attributes.push((name.to_owned(), place)),
                (None, None) => return Err(unknown(name, model, mapped)),
            }
        }
        if inputs.is_empty() {
            let message = "the expression names no property, so nothing would make it run";
            return Err(Problem::new(message, "name a property that a stream maps"));
        }
        // The environment is the same for all, and dear to build.
        static ENV: std::sync::OnceLock<Arc<Env>> = std::sync::OnceLock::new();
        let env = ENV.get_or_init(|| Arc::new(Env::stdlib())).clone();
        let mut counted = program.expression().clone();
        let is_counted = count_loops(&mut counted, false);
        let text = self.0.clone();
        let expression = Arc::new(counted);
        let expression = Expression { expression, is_counted, env, text, inputs, attributes, yields };
        expression.try_out(model)?;
        Ok(expression)
    }
}

impl Expression {
    /// Runs on what a twin has. Nothing comes of it before all that it names has a value.
    pub(super) fn run(&self, model: &Model, occasion: &Occasion<'_>, written: &mut Written<'_>) {
        let shadow = &*written.shadow;
        if self.inputs.iter().any(|(_, number)| shadow.value(model, *number).is_none()) {
            return;
        }
        let previous = match self.yields.targets[0] {
            Target::Property(number) => Some(number),
            Target::Event(_) => None,
        };
        let scope = Scope { shadow, model, expression: self, occasion, previous };
        match self.evaluate(&scope) {
            Ok(value) if self.is_none(&value) => {}
            Ok(value) => self.yields.take_one(&value, model, written),
            Err(error) => self.yields.fail(error.to_string(), model, written),
        }
    }

    pub(super) fn names_attributes(&self) -> bool {
        !self.attributes.is_empty()
    }

    fn is_none(&self, value: &Json) -> bool {
        let is_event = matches!(self.yields.targets[0], Target::Event(_));
        value.is_null() || is_event && *value == Json::Bool(false)
    }

    fn variable(&self, name: &str) -> Option<Variable> {
        let property = self.inputs.iter().find(|(known, _)| known == name);
        let attribute = || self.attributes.iter().find(|(known, _)| known == name);
        match (property, name) {
            (Some((_, number)), _) => Some(Variable::Property(*number)),
            (None, DEVICE_TIME) => Some(Variable::DeviceTime),
            (None, PREVIOUS) => Some(Variable::Previous),
            (None, _) => attribute().map(|(_, place)| Variable::Attribute(*place)),
        }
    }

    fn evaluate(&self, scope: &dyn VariableResolver) -> Result<Json, Fault> {
        let mut context = Context::with_env(self.env.clone());
        context.set_variable_resolver(scope);
        let items = self.is_counted.then(|| Arc::new(AtomicUsize::new(0)));
        if let Some(items) = items.clone() {
            let counted = move |list: cel::Value| count(list, &items);
            context.add_function(COUNTED, counted).expect("the library has no such function");
        }
        let value = cel::Value::resolve(&self.expression, &context);
        // A loop such as `all` may have gone past the error.
        if items.is_some_and(|items| items.load(Ordering::Relaxed) > ITEMS_MAX) {
            return Err(Fault::TooLarge);
        }
        let value = value?;
        if matches!(value, cel::Value::Float(number) if !number.is_finite()) {
            return Err(Fault::Infinite);
        }
        let mut json = value.json().map_err(|error| Fault::NoJson(error.to_string()))?;
        // Its maps are in no order, and what comes out must be the same each time.
        json.sort_all_objects();
        Ok(json)
    }

    /// Runs once on values of the right kinds: a slip that shows there shows before the job runs.
    fn try_out(&self, model: &Model) -> Result<(), Problem> {
        let sample = Sample { model, expression: self };
        match self.evaluate(&sample) {
            Ok(value) => self.check(&value, model),
            Err(Fault::Cel(error)) => match error {
                ExecutionError::UndeclaredReference(name) => {
                    let message = format!("there is no function `{name}`");
                    let help = "see the list of functions at github.com/google/cel-spec, or use python";
                    Err(Problem::new(message, help))
                }
                ExecutionError::NoSuchOverload(_) | ExecutionError::UnsupportedBinaryOperator(..) => {
                    let help = "operands are of one kind: write 2.0 beside a double and 2 beside an integer, \
                                or double(n)";
                    Err(Problem::new(format!("the kinds do not go together: {error}"), help))
                }
                // It depends on the values: the function's policy deals with it.
                _ => Ok(()),
            },
            Err(Fault::Infinite | Fault::TooLarge) => Ok(()),
            Err(Fault::NoJson(error)) => {
                Err(Problem::new(error, "give a number, a text, a truth value, a list or a map"))
            }
        }
    }

    /// Whether a value like this may be what it writes.
    fn check(&self, value: &Json, model: &Model) -> Result<(), Problem> {
        let Target::Property(number) = self.yields.targets[0] else { return Ok(()) };
        let property = &model.properties[usize::from(number)];
        let (fits, word) = match &property.kind {
            Kind::Double => (value.is_number(), "a number such as 1.5"),
            Kind::Integer => (value.is_i64(), "an integer: int(x)"),
            Kind::Boolean => (value.is_boolean(), "true or false"),
            Kind::String | Kind::Enum(_) => (value.is_string(), "a text"),
            Kind::Array { .. } => (value.is_array(), "a list"),
            Kind::Object => (value.is_object(), "a map"),
        };
        if fits || value.is_null() {
            return Ok(());
        }
        let message = format!("the expression gives {value}, which is no value of `{}`", property.name);
        Err(Problem::new(message, format!("give {word}, or declare another type")))
    }
}

/// Why an expression gives nothing.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Cel(#[from] ExecutionError),
    #[error("the result is infinite, or no number")]
    Infinite,
    #[error("too_large: its loops inside of loops go over more than {ITEMS_MAX} items")]
    TooLarge,
    #[error("{0}")]
    NoJson(String),
}

/// What a name in an expression stands for.
enum Variable {
    Property(u16),
    /// By its place among those of the model.
    Attribute(usize),
    DeviceTime,
    Previous,
}

/// The variables of one run, read in place.
struct Scope<'a> {
    shadow: &'a Shadow,
    model: &'a Model,
    expression: &'a Expression,
    occasion: &'a Occasion<'a>,
    previous: Option<u16>,
}

impl Scope<'_> {
    fn value(&self, number: u16) -> cel::Value {
        let kind = &self.model.properties[usize::from(number)].kind;
        self.shadow.value(self.model, number).map_or(cel::Value::Null, |value| to_cel(kind, value))
    }
}

impl VariableResolver for Scope<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let value = match self.expression.variable(name)? {
            Variable::Property(number) => self.value(number),
            Variable::Attribute(place) => {
                let held = self.occasion.facts.attribute(self.model, place);
                held.map_or(cel::Value::Null, |held| {
                    let (kind, value) = held.as_value();
                    to_cel(&kind, value)
                })
            }
            Variable::DeviceTime => cel::Value::Int(self.occasion.at_us.div_euclid(1_000)),
            Variable::Previous => self.previous.map_or(cel::Value::Null, |number| self.value(number)),
        };
        value.try_into().ok().map(CowVal::Owned)
    }
}

/// Variables to try an expression out on.
struct Sample<'a> {
    model: &'a Model,
    expression: &'a Expression,
}

impl VariableResolver for Sample<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let value = match self.expression.variable(name)? {
            Variable::Property(number) => {
                let kind = &self.model.properties[usize::from(number)].kind;
                let value = match kind {
                    Kind::Double => Value::Double(1.5),
                    Kind::Integer => Value::Integer(1),
                    Kind::Boolean => Value::Boolean(true),
                    Kind::String => Value::Text(""),
                    Kind::Enum(_) => Value::Enum(0),
                    Kind::Array { .. } => Value::Json("[]"),
                    Kind::Object => Value::Json("{}"),
                };
                to_cel(kind, value)
            }
            Variable::Attribute(place) => match self.model.attributes[place].1 {
                KindName::Double => cel::Value::Float(1.5),
                KindName::Integer => cel::Value::Int(1),
                KindName::Boolean => cel::Value::Bool(true),
                _ => String::new().into(),
            },
            Variable::DeviceTime => cel::Value::Int(0),
            Variable::Previous => cel::Value::Null,
        };
        value.try_into().ok().map(CowVal::Owned)
    }
}

fn to_cel(kind: &Kind, value: Value<'_>) -> cel::Value {
    match (value, kind) {
        (Value::Double(number), _) => cel::Value::Float(number),
        (Value::Integer(number), _) => cel::Value::Int(number),
        (Value::Boolean(flag), _) => cel::Value::Bool(flag),
        (Value::Enum(word), Kind::Enum(words)) => words.get(usize::from(word)).cloned().into(),
        (Value::Enum(_), _) => cel::Value::Null,
        (Value::Text(text), _) => text.to_owned().into(),
        (Value::Json(json), _) => {
            let tree = serde_json::from_str::<Json>(json).ok();
            tree.and_then(|tree| cel::to_value(tree).ok()).unwrap_or(cel::Value::Null)
        }
    }
}

fn is_given(name: &str) -> bool {
    matches!(name, DEVICE_TIME | PREVIOUS)
}

fn unknown(name: &str, model: &Model, mapped: &[u16]) -> Problem {
    let is_computed = model.property(name).is_some();
    let known = mapped.iter().map(|number| model.properties[usize::from(*number)].name.as_str());
    match is_computed {
        true => Problem::new(
            format!("`{name}` is mapped by no stream; functions see what the physical twin sent"),
            "name a property that a stream maps",
        ),
        false => {
            let attributes = model.attributes.iter().map(|(name, _)| name.as_str());
            let known: Vec<&str> = known.chain(attributes).chain([DEVICE_TIME, PREVIOUS]).collect();
            Problem::new(format!("there is no property `{name}`"), suggestion(name, known.iter().copied()))
        }
    }
}

/// What the parser says, in one line.
fn syntax(errors: &cel::ParseErrors) -> Problem {
    let first = errors.errors.first();
    let (message, (_, column)) = first.map_or((String::new(), (1, 1)), |one| (one.msg.clone(), one.pos));
    // What it would have expected is a list of all there is.
    let message = message.lines().next().unwrap_or_default();
    let message = message.split(" expecting ").next().unwrap_or_default().to_owned();
    Problem::new(
        format!("the expression cannot be read at its character {column}: {message}"),
        "write for example temperature * 1.8 + 32.0",
    )
}

/// The variables that macros such as `map` bring with them.
fn own_variables(expression: &IdedExpr, own: &mut BTreeSet<String>) {
    let mut each = |parts: &[&IdedExpr]| parts.iter().for_each(|part| own_variables(part, own));
    match &expression.expr {
        Expr::Comprehension(one) => {
            each(&[&one.iter_range, &one.accu_init, &one.loop_cond, &one.loop_step, &one.result]);
            own.extend([one.iter_var.clone(), one.accu_var.clone()]);
            own.extend(one.iter_var2.clone());
        }
        Expr::Call(call) => {
            call.target.iter().for_each(|target| each(&[target]));
            call.args.iter().for_each(|argument| each(&[argument]));
        }
        Expr::List(list) => list.elements.iter().for_each(|element| each(&[element])),
        Expr::Select(select) => each(&[&select.operand]),
        Expr::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    each(&[&entry.key, &entry.value]);
                }
            }
        }
        _ => {}
    }
}

/// Has the lists be counted that loops inside of loops go over; whether there are such loops.
fn count_loops(expression: &mut IdedExpr, is_inside: bool) -> bool {
    let each = |parts: &mut [&mut IdedExpr], is_inside: bool| {
        parts.iter_mut().fold(false, |found, part| count_loops(part, is_inside) | found)
    };
    match &mut expression.expr {
        Expr::Comprehension(one) => {
            let beside = each(&mut [&mut one.iter_range, &mut one.accu_init, &mut one.result], is_inside);
            let within = each(&mut [&mut one.loop_cond, &mut one.loop_step], true);
            if is_inside {
                let args = vec![std::mem::take(&mut one.iter_range)];
                let call = CallExpr { func_name: COUNTED.to_owned(), target: None, args };
                one.iter_range.expr = Expr::Call(call);
            }
            is_inside || beside || within
        }
        Expr::Call(call) => {
            let target = call.target.iter_mut().map(|target| &mut **target);
            each(&mut target.chain(&mut call.args).collect::<Vec<_>>(), is_inside)
        }
        Expr::List(list) => each(&mut list.elements.iter_mut().collect::<Vec<_>>(), is_inside),
        Expr::Select(select) => count_loops(&mut select.operand, is_inside),
        Expr::Map(map) => {
            let entries = map.entries.iter_mut().filter_map(|entry| match &mut entry.expr {
                EntryExpr::MapEntry(entry) => Some([&mut entry.key, &mut entry.value]),
                EntryExpr::StructField(_) => None,
            });
            each(&mut entries.flatten().collect::<Vec<_>>(), is_inside)
        }
        _ => false,
    }
}

/// Counts the items of what a loop is about to go over.
fn count(list: cel::Value, items: &AtomicUsize) -> Result<cel::Value, ExecutionError> {
    let length = match &list {
        cel::Value::List(list) => list.len(),
        cel::Value::Map(map) => map.map.len(),
        _ => 0,
    };
    match items.fetch_add(length, Ordering::Relaxed) + length {
        0..=ITEMS_MAX => Ok(list),
        _ => Err(ExecutionError::function_error(COUNTED, "too many items")),
    }
}

#[cfg(test)]
mod tests;
