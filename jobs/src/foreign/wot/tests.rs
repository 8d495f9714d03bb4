//! Thing Models: the examples of the specification, and what is made of several files.

use expect_test::{Expect, expect};

use crate::foreign::tests::{check, check_in, specification};

/// An example of the specification, whose links by URL have copies.
fn check_example(name: &str, copies: &str, expected: Expect) {
    check_in(
        &specification("wot"),
        &format!("{{wot: {{file: {name}.tm.jsonld, copies: {{{copies}}}}}}}"),
        expected,
    );
}

#[test]
fn the_specifications_examples() {
    check_example(
        "lamp",
        "",
        expect![[r#"
        properties.status: {"type":"string","description":"current status of the lamp (on|off)"}
        events.overheating: {"type":"string","description":"Lamp reaches a critical temperature (overheating)"}
        actions.toggle: {"description":"Turn the lamp on or off"}
    "#]],
    );
    check_example(
        "basic-on-off",
        "",
        expect![[r#"
        properties.onOff: {"type":"boolean"}
        basic-on-off.tm.jsonld:6:9: note: writing to properties is not carried over: `onOff`
          help: declare an action in the type for what is to be set
    "#]],
    );
    check_example(
        "multi-sensor",
        "",
        expect![[r#"
        properties.genericTemperature: {"type":"double","unit":"C"}
        properties.innerTemperature: {"type":"double","unit":"C","range":[10.0,1.7976931348623157e+308],"description":"The inner temperature"}
        properties.outerTemperature: {"type":"double","unit":"K","description":"The outer temperature is measured in Kelvin"}
        multi-sensor.tm.jsonld:6:9: note: writing to properties is not carried over: `genericTemperature`, `innerTemperature`, `outerTemperature`
          help: declare an action in the type for what is to be set
        multi-sensor.tm.jsonld:8:21: note: the unit `C` of `genericTemperature` is coulomb as a UCUM code
          help: if degrees are meant, write Cel
        multi-sensor.tm.jsonld:8:21: note: the unit `C` of `innerTemperature` is coulomb as a UCUM code
          help: if degrees are meant, write Cel
    "#]],
    );
    check_example(
        "SmartVentilator",
        "",
        expect![[r#"
        properties.status: {"type":"enum","values":["on_value","off_value","error_value"]}
        relationships.ventilation: {"to":"Ventilation"}
        relationships.led: {"to":"LED"}
        SmartVentilator.tm.jsonld:21:9: note: writing to properties is not carried over: `status`
          help: declare an action in the type for what is to be set
    "#]],
    );
    check_example(
        "LED",
        "",
        expect![[r#"
        properties.R: {"type":"double","description":"Red color"}
        properties.G: {"type":"double","description":"Green color"}
        properties.B: {"type":"double","description":"Blue color"}
        actions.fadeIn: {"input":{"type":"double","description":"fadeIn in ms"},"description":"fadeIn"}
        actions.fadeOut: {"input":{"type":"double","description":"fadeOut in ms"},"description":"fadeOut"}
        LED.tm.jsonld:9:9: note: writing to properties is not carried over: `R`, `G`, `B`
          help: declare an action in the type for what is to be set
    "#]],
    );
    check_example(
        "Ventilation",
        "",
        expect![[r#"
        properties.switch: {"type":"boolean","description":"True=On; False=Off"}
        properties.adjustRpm: {"type":"double","range":[200.0,1200.0]}
        Ventilation.tm.jsonld:9:9: note: writing to properties is not carried over: `switch`, `adjustRpm`
          help: declare an action in the type for what is to be set
    "#]],
    );
    check_example(
        "thermostat",
        "",
        expect![[r#"
        properties.temperature: {"type":"double","range":[-20.0,1.7976931348623157e+308],"description":"Shows the current temperature value"}
        thermostat.tm.jsonld:6:2: note: how a Thing is spoken to is not carried over: `base`
          help: the type's streams and the job's connections say it: topics, pointers, brokers
        thermostat.tm.jsonld:8:3: note: writing to properties is not carried over: `temperature`
          help: declare an action in the type for what is to be set
        thermostat.tm.jsonld:12:15: note: `maximum` of the property `temperature` is no number
          help: say what stands for it: model: {wot: {file: .., placeholders: {THERMOSTATE_TEMPERATURE_MAXIMUM: ..}}}
    "#]],
    );
}

#[test]
fn the_specifications_examples_of_several_files() {
    let on_off = "\"http://example.com/BasicOnOffTM\": basic-on-off.tm.jsonld";
    check_example(
        "smart-lamp-control-with-dimming",
        on_off,
        expect![[r#"
        properties.onOff: {"type":"boolean"}
        properties.dim: {"type":"integer","range":[0.0,100.0],"description":"Dimming level"}
        basic-on-off.tm.jsonld:6:9: note: writing to properties is not carried over: `onOff`, `dim`
          help: declare an action in the type for what is to be set
    "#]],
    );
    let on_off_file = "\"http://example.com/BasicOnOffTM.tm.jsonld\": basic-on-off.tm.jsonld";
    check_example(
        "smart-lamp-control-import",
        on_off_file,
        expect![[r#"
        properties.switch: {"type":"boolean"}
        smart-lamp-control-import.tm.jsonld:6:9: note: writing to properties is not carried over: `switch`
          help: declare an action in the type for what is to be set
    "#]],
    );
    let dimming = "\"http://example.com/SmartLampControlwithDimming.tm.jsonld\": smart-lamp-control-with-dimming.tm.jsonld";
    check_example(
        "smart-lamp-control-overwrite",
        dimming,
        expect![[r#"
        properties.dimming: {"type":"integer","unit":"%","range":[0.0,80.0]}
        smart-lamp-control-overwrite.tm.jsonld:6:9: note: writing to properties is not carried over: `dimming`
          help: declare an action in the type for what is to be set
    "#]],
    );
    let both = format!(
        "{on_off}, \"http://example.com/LampTM.tm.jsonld\": lamp.tm.jsonld, \
         \"http://example.com/LampWithDimmingTM.tm.jsonld\": smart-lamp-control-with-dimming.tm.jsonld"
    );
    check_example(
        "smart-lamp-control-extend-import",
        &both,
        expect![[r#"
        properties.onOff: {"type":"boolean"}
        properties.status: {"type":"string","description":"current status of the lamp (on|off)"}
        properties.dimming: {"type":"integer","range":[0.0,100.0],"description":"Dimming level"}
        basic-on-off.tm.jsonld:6:9: note: writing to properties is not carried over: `onOff`, `dimming`
          help: declare an action in the type for what is to be set
    "#]],
    );
    let modified = format!(
        "{on_off}, \"http://example.com/SmartControlLampTM\": smart-lamp-control-with-dimming.tm.jsonld"
    );
    check_example(
        "smart-lamp-control-modified-dim",
        &modified,
        expect![[r#"
        properties.onOff: {"type":"boolean"}
        properties.dim: {"type":"integer","range":[0.0,200.0],"description":"Dimming level"}
        basic-on-off.tm.jsonld:6:9: note: writing to properties is not carried over: `onOff`, `dim`
          help: declare an action in the type for what is to be set
    "#]],
    );
    // Without copies nothing is fetched.
    check_example(
        "smart-lamp-control-with-dimming",
        "",
        expect![[r#"
        smart-lamp-control-with-dimming.tm.jsonld:7:17: `http://example.com/BasicOnOffTM` is not fetched
          help: keep a copy beside the job and name it: model: {wot: {file: .., copies: {"http://example.com/BasicOnOffTM": copy.tm.json}}}
    "#]],
    );
    check_example(
        "smart-lamp-control-import",
        "",
        expect![[r#"
        smart-lamp-control-import.tm.jsonld:7:23: `http://example.com/BasicOnOffTM.tm.jsonld` is not fetched
          help: keep a copy beside the job and name it: model: {wot: {file: .., copies: {"http://example.com/BasicOnOffTM.tm.jsonld": copy.tm.json}}}
    "#]],
    );
}

#[test]
fn what_is_optional_may_be_left_out() {
    let folder = specification("wot");
    check_in(
        &folder,
        "{wot: {file: lampThingModel.tm.jsonld, optional: false}}",
        expect![[r#"
        properties.status: {"type":"string","description":"current status of the lamp (on|off)"}
        actions.toggle: {"description":"Turn the lamp on or off"}
    "#]],
    );
    // What takes a definition over by itself has it for good.
    check_in(
        &folder,
        "{wot: {file: lamp-all-mandatory.tm.jsonld, optional: false}}",
        expect![[r#"
        properties.status: {"type":"string","description":"current status of the lamp (on|off)"}
        events.overheating: {"type":"string","description":"Lamp reaches a critical temperature (overheating)"}
        actions.toggle: {"description":"Turn the lamp on or off"}
    "#]],
    );
    check_in(
        &folder,
        "{wot: {file: multi-sensor.tm.jsonld, optional: false}}",
        expect![[r#"
        properties.innerTemperature: {"type":"double","unit":"C","range":[10.0,1.7976931348623157e+308],"description":"The inner temperature"}
        properties.outerTemperature: {"type":"double","unit":"K","description":"The outer temperature is measured in Kelvin"}
        multi-sensor.tm.jsonld:8:21: note: the unit `C` of `innerTemperature` is coulomb as a UCUM code
          help: if degrees are meant, write Cel
        multi-sensor.tm.jsonld:10:9: note: writing to properties is not carried over: `innerTemperature`, `outerTemperature`
          help: declare an action in the type for what is to be set
    "#]],
    );
}

#[test]
fn placeholders_have_values() {
    let folder = specification("wot");
    let filled = "{wot: {file: thermostat.tm.jsonld, placeholders: {THERMOSTATE_TEMPERATURE_MAXIMUM: 47.7, THERMOSTATE_TEMPERATURE_OBSERVABLE: true}}}";
    check_in(
        &folder,
        filled,
        expect![[r#"
        properties.temperature: {"type":"double","range":[-20.0,47.7],"description":"Shows the current temperature value"}
        thermostat.tm.jsonld:6:2: note: how a Thing is spoken to is not carried over: `base`
          help: the type's streams and the job's connections say it: topics, pointers, brokers
        thermostat.tm.jsonld:8:3: note: writing to properties is not carried over: `temperature`
          help: declare an action in the type for what is to be set
    "#]],
    );
    let mistyped = "{wot: {file: thermostat.tm.jsonld, placeholders: {THERMOSTATE_NUMBR: 4}}}";
    check_in(
        &folder,
        mistyped,
        expect![[r#"
        job.yaml:3:25: the model has no placeholder `THERMOSTATE_NUMBR`
          help: did you mean `THERMOSTATE_NUMBER`?
    "#]],
    );
}

#[test]
fn events_actions_and_links() {
    let model = r#"{"@type": ["tm:ThingModel", "Press"], "base": "mqtt://x", "titles": {"de": "Presse"}, "saref:kind": 7,
"properties": {"hot": {"type": "boolean", "readOnly": true}, "2nd": {"type": "number", "readOnly": true}},
"events": {
  "hot": {"data": {"type": "number"}},
  "overheated": {"description": "Too hot\n for long", "data": {"type": "number", "unit": "Cel"}, "subscription": {}},
  "state": {"data": {"type": "string", "enum": ["a", "b"]}},
  "opened": {}, "listed": {"data": {"type": "array"}}},
"actions": {
  "setPeriod": {"input": {"type": "integer", "unit": "ms", "minimum": 100, "maximum": 60000}, "output": {"type": "object"}, "safe": true},
  "stop": {"title": "Stop"}, "load": {"input": {"title": "anything"}}},
"links": [
  {"rel": "item", "href": "tool.td.json", "type": "application/td+json"},
  {"rel": "controlledBy", "href": "https://example.com/things/panel"},
  {"rel": "icon", "href": "press.png", "type": "image/png"},
  {"rel": "tm:submodel", "href": "./Drive.tm.json"}]}"#;
    check(
        &[("m.json", model)],
        "{wot: m.json}",
        expect![[r#"
        properties.hot: {"type":"boolean"}
        events.overheated: {"type":"double","description":"Too hot  for long"}
        events.state: {"type":"string"}
        events.opened: {"type":"object"}
        relationships.item: {"to":"tool"}
        relationships.controlledBy: {"to":"panel"}
        relationships.Drive: {"to":"Drive"}
        actions.setPeriod: {"input":{"type":"integer","unit":"ms","range":[100.0,60000.0]}}
        actions.stop: {"description":"Stop"}
        actions.load: {}
        m.json:1:39: note: how a Thing is spoken to is not carried over: `base`
          help: the type's streams and the job's connections say it: topics, pointers, brokers
        m.json:2:62: note: the property `2nd` is not carried over: that is no name here
          help: begin with a letter or `_`, go on with letters, digits, `_`, `-` or `.`, up to 128 bytes
        m.json:4:3: note: the event `hot` is not carried over: a property has that name
          help: declare it in the type under a name of its own
        m.json:5:3: note: units and ranges of events are not carried over: `overheated`
          help: an event has a kind only; describe the rest in its description
        m.json:5:98: note: annotations are not carried over: `subscription`, `output`, `safe`, `saref:kind`
          help: they change nothing about the values of twins
        m.json:7:36: note: the event `listed` is not carried over: an array holds numbers, booleans or texts, all of one kind
          help: declare it in the type, with a kind that fits
        m.json:10:48: note: the input of the action `load` is not carried over: it has no `type`, so it may be anything
          help: declare it in the type, with a kind that fits
        m.json:14:3: note: links are not carried over: `icon`
          help: they lead to no other twin
    "#]],
    );
    check(
        &[("m.json", r#"{"@type": "tm:ThingModel", "properties": ["a"]}"#)],
        "{wot: m.json}",
        expect![[r#"
            m.json:1:42: `properties` is not a map
              help: write names and what they are: {"temperature": {..}}
        "#]],
    );
    check(
        &[("m.json", r#"{"@type": "Thing", "title": "press 7"}"#)],
        "{wot: m.json}",
        expect![[r#"
        m.json:1:11: `m.json` is no Thing Model
          help: one says "@type": "tm:ThingModel"; a Thing Description is of one Thing
    "#]],
    );
}

#[test]
fn models_that_are_made_of_themselves() {
    let extends = |href: &str| {
        format!(
            "{{\"@type\": \"tm:ThingModel\",\n\"links\": [{{\"rel\": \"tm:extends\", \"href\": \"{href}\"}}]}}"
        )
    };
    let (a, b) = (extends("b.json"), extends("./a.json"));
    let files = [("a.json", a.as_str()), ("b.json", b.as_str())];
    check(
        &files,
        "{wot: a.json}",
        expect![[r#"
        b.json:2:41: the model is made of itself: a.json -> b.json -> a.json
          help: take one of these links out
    "#]],
    );
    check(
        &[("a.json", &extends("a.json"))],
        "{wot: a.json}",
        expect![[r#"
        a.json:2:41: the model is made of itself: a.json -> a.json
          help: take one of these links out
    "#]],
    );
    let references = r##"{"@type": "tm:ThingModel", "properties": {
"a": {"tm:ref": "#/properties/b"},
"b": {"tm:ref": "#/properties/c", "title": "b"},
"c": {"tm:ref": "#/properties/a"}}}"##;
    check(
        &[("m.json", references)],
        "{wot: m.json}",
        expect![[r#"
        m.json:2:17: the model is made of itself: m.json#/properties/b -> m.json#/properties/c -> m.json#/properties/a -> m.json#/properties/b
          help: take one of these links out
    "#]],
    );
    let missing = r##"{"@type": "tm:ThingModel", "properties": {"a": {"tm:ref": "#/properties/b"}}}"##;
    check(
        &[("m.json", missing)],
        "{wot: m.json}",
        expect![[r#"
        m.json:1:59: there is no `/properties/b` in `m.json`
          help: write the place of a definition: #/properties/temperature
    "#]],
    );
    let placeless = r##"{"@type": "tm:ThingModel", "properties": {"a": {"tm:ref": "b.json"}}}"##;
    check(
        &[("m.json", placeless)],
        "{wot: m.json}",
        expect![[r#"
        m.json:1:59: `b.json` leads to no definition
          help: write file and place: base.tm.json#/properties/temperature
    "#]],
    );
    check(
        &[("m.json", &extends("gone.json"))],
        "{wot: m.json}",
        expect![[r#"
        m.json:2:41: cannot read `gone.json`: No such file or directory (os error 2)
          help: name a file from the folder on of the file that names it
    "#]],
    );
}

#[test]
fn what_multiplies_is_bounded() {
    let mut levels = String::new();
    for level in 1..12 {
        let fields: Vec<String> =
            (0..10).map(|n| format!("\"f{n}\": {{\"tm:ref\": \"#/levels/l{}\"}}", level - 1)).collect();
        levels +=
            &format!(", \"l{level}\": {{\"type\": \"object\", \"properties\": {{{}}}}}", fields.join(", "));
    }
    let model =
        format!("{{\"@type\": \"tm:ThingModel\", \"levels\": {{\"l0\": {{\"type\": \"number\"}}{levels}}}}}");
    check(
        &[("m.json", &model)],
        "{wot: m.json}",
        expect![[r#"
        m.json:1:1130: the model grows to more than 100000 values
          help: refer to smaller definitions, or fewer times
    "#]],
    );
}

#[test]
fn a_reference_may_lead_to_what_another_model_extends() {
    let base = r#"{"@type": "tm:ThingModel", "properties": {"t": {"type": "number", "unit": "Cel", "readOnly": true}}, "links": [{"rel": "item", "href": "x"}]}"#;
    let middle = r#"{"@type": "tm:ThingModel", "links": [{"rel": "tm:extends", "href": "base.json"}]}"#;
    let top = r#"{"@type": "tm:ThingModel", "properties": {"inner": {"tm:ref": "middle.json#/properties/t", "maximum": 90}}}"#;
    let child = r#"{"@type": "tm:ThingModel", "links": [{"rel": "tm:extends", "href": "middle.json"}, {"rel": "tm:extends", "href": "top.json"}], "properties": {"t": null}}"#;
    let files = [("base.json", base), ("middle.json", middle), ("top.json", top), ("child.json", child)];
    check(
        &files,
        "{wot: top.json}",
        expect![[r#"
        properties.inner: {"type":"double","unit":"Cel","range":[-1.7976931348623157e+308,90.0]}
    "#]],
    );
    check(
        &files,
        "{wot: child.json}",
        expect![[r#"
        properties.inner: {"type":"double","unit":"Cel","range":[-1.7976931348623157e+308,90.0]}
        relationships.item: {"to":"x"}
    "#]],
    );
}
