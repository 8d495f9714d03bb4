//! Interfaces in DTDL: the examples of the specification, kinds of schemas, and what is made of several interfaces.

use expect_test::{Expect, expect};

use crate::foreign::tests::{check, check_in, specification};
use crate::foreign::units;

/// An example of the specification.
fn check_example(model: &str, expected: Expect) {
    check_in(&specification("dtdl"), &format!("{{dtdl: {model}}}"), expected);
}

/// An interface with these contents.
fn check_contents(contents: &str, expected: Expect) {
    let interface = format!(
        "{{\"@context\": \"dtmi:dtdl:context;3\", \"@id\": \"dtmi:a:B;1\", \"@type\": \"Interface\", \"contents\":\n{contents}}}"
    );
    check(&[("m.json", &interface)], "{dtdl: m.json}", expected);
}

#[test]
fn the_specifications_examples() {
    check_example(
        "Thermostat.json",
        expect![[r#"
        properties.temp: {"type":"double"}
        properties.setPointTemp: {"type":"double"}
        Thermostat.json:14:15: note: writing to properties is not carried over: `setPointTemp`
          help: declare an action in the type for what is to be set
    "#]],
    );
    check_example(
        "Building.json",
        expect![[r#"
        properties.name: {"type":"string"}
        relationships.contains: {"to":"Room"}
        Building.json:9:15: note: writing to properties is not carried over: `name`
          help: declare an action in the type for what is to be set
    "#]],
    );
    check_example(
        "{file: ConferenceRoom.json, interface: \"dtmi:com:example:ConferenceRoom;1\"}",
        expect![[r#"
            properties.capacity: {"type":"integer"}
            properties.occupied: {"type":"boolean"}
        "#]],
    );
    check_example(
        "{file: ConferenceRoom.json, interface: \"dtmi:com:example:Room;1\"}",
        expect![[r#"
        properties.occupied: {"type":"boolean"}
    "#]],
    );
    check_example(
        "Phone.json",
        expect![[r#"
        Phone.json:10:17: note: the component `frontCamera` is not carried over: there is no interface `dtmi:com:example:Camera;3`
          help: add it to the file, or as dtmi/com/example/camera-3.json
        Phone.json:15:17: note: the component `backCamera` is not carried over: there is no interface `dtmi:com:example:Camera;3`
          help: add it to the file, or as dtmi/com/example/camera-3.json
        Phone.json:20:17: note: the component `deviceInfo` is not carried over: there is no interface `dtmi:azure:deviceManagement:DeviceInformation;1`
          help: add it to the file, or as dtmi/azure/devicemanagement/deviceinformation-1.json
    "#]],
    );
    check_example(
        "ReusableTypeExample.json",
        expect![[r#"
        properties.accelerometer1: {"type":"object"}
        properties.accelerometer2: {"type":"object"}
        ReusableTypeExample.json:21:7: note: what `fields` says of the property `accelerometer1` is not checked
          help: an object is kept as it is, whatever its fields are
        ReusableTypeExample.json:21:7: note: what `fields` says of the property `accelerometer2` is not checked
          help: an object is kept as it is, whatever its fields are
    "#]],
    );
    check_example(
        "anInterface.json",
        expect![[r#"
        properties.currentDistance: {"type":"array","items":"double"}
    "#]],
    );
    check_example(
        "Elements.json",
        expect![[r#"
        properties.temp: {"type":"double"}
        properties.setPointTemp: {"type":"double"}
        properties.ledState: {"type":"array","items":"boolean"}
        properties.state: {"type":"enum","values":["offline","online"]}
        properties.modules: {"type":"object"}
        properties.accelerometer: {"type":"object"}
        properties.location: {"type":"object"}
        relationships.floor: {"to":"Floor"}
        relationships.children: {"to":"any"}
        relationships.cleanedBy: {"to":"Cleaner"}
        actions.reboot: {"input":{"type":"string","description":"Requested time to reboot the device."}}
        Elements.json:13:15: note: writing to properties is not carried over: `setPointTemp`, `modules`
          help: declare an action in the type for what is to be set
        Elements.json:26:7: note: what commands answer is not carried over: `reboot`
          help: an action has an input only
        Elements.json:34:7: note: annotations are not carried over: `minMultiplicity`, `maxMultiplicity`, `properties`
          help: they change nothing about the values of twins
        Elements.json:57:17: note: the component `frontCamera` is not carried over: there is no interface `dtmi:com:example:Camera;3`
          help: add it to the file, or as dtmi/com/example/camera-3.json
        Elements.json:73:9: note: the property `state` is sent as a number, and has words here
          help: where a stream maps it, write {pointer: .., map: {1: offline, 2: online}}
        Elements.json:97:9: note: what `mapValue` says of the property `modules` is not checked
          help: an object is kept as it is, whatever its fields are
        Elements.json:108:9: note: what `fields` says of the property `accelerometer` is not checked
          help: an object is kept as it is, whatever its fields are
    "#]],
    );
    check_example(
        "Sensor.json",
        expect![[r#"
        properties.thermometer: {"type":"double","unit":"Cel"}
        properties.barometer: {"type":"double","unit":"mbar"}
        properties.humidityMeter: {"type":"integer","unit":"%"}
        properties.anemometer: {"type":"double","unit":"m/s"}
    "#]],
    );
    check_example(
        "SensorOfOne.json",
        expect![[r#"
        properties.multimeter: {"type":"object"}
        SensorOfOne.json:14:9: note: what `fields` says of the property `multimeter` is not checked
          help: an object is kept as it is, whatever its fields are
    "#]],
    );
    check_example(
        "TemperatureController.json",
        expect![[r#"
        properties.workingSet: {"type":"double","unit":"KiBy","description":"Current working set of the device memory in KiB."}
        properties.serialNumber: {"type":"string","description":"Serial number of the device."}
        properties.thermostat1_temperature: {"type":"double","unit":"Cel","description":"Temperature in degrees Celsius."}
        properties.thermostat1_targetTemperature: {"type":"double","unit":"Cel","description":"Allows to remotely specify the desired target temperature."}
        properties.thermostat1_maxTempSinceLastReboot: {"type":"double","unit":"Cel","description":"Returns the max temperature since last device reboot."}
        properties.thermostat2_temperature: {"type":"double","unit":"Cel","description":"Temperature in degrees Celsius."}
        properties.thermostat2_targetTemperature: {"type":"double","unit":"Cel","description":"Allows to remotely specify the desired target temperature."}
        properties.thermostat2_maxTempSinceLastReboot: {"type":"double","unit":"Cel","description":"Returns the max temperature since last device reboot."}
        actions.reboot: {"input":{"type":"integer","description":"Number of seconds to wait before rebooting the device."},"description":"Reboots the device after waiting the number of seconds specified."}
        actions.thermostat1_getMaxMinReport: {"input":{"type":"string","description":"Period to return the max-min report."},"description":"This command returns the max, min and average temperature from the specified time to the current time."}
        actions.thermostat2_getMaxMinReport: {"input":{"type":"string","description":"Period to return the max-min report."},"description":"This command returns the max, min and average temperature from the specified time to the current time."}
        TemperatureController.json:52:17: note: the component `deviceInformation` is not carried over: there is no interface `dtmi:azure:DeviceManagement:DeviceInformation;1`
          help: add it to the file, or as dtmi/azure/devicemanagement/deviceinformation-1.json
        dtmi/com/example/thermostat-1.json:24:15: note: writing to properties is not carried over: `thermostat1_targetTemperature`, `thermostat2_targetTemperature`
          help: declare an action in the type for what is to be set
        dtmi/com/example/thermostat-1.json:53:7: note: what commands answer is not carried over: `thermostat1_getMaxMinReport`, `thermostat2_getMaxMinReport`
          help: an action has an input only
    "#]],
    );
}

#[test]
fn every_unit_is_known() {
    let path = specification("dtdl/quantitativeTypes.v1.context.json");
    let text = std::fs::read_to_string(path).expect("it is there");
    let context: serde_json::Value =
        serde_json::from_str(text.trim_start_matches('\u{feff}')).expect("it is JSON");
    let is_unit = |value: &serde_json::Value| value["@id"].as_str().is_some_and(|id| id.contains(":unit:"));
    let all = context.as_object().expect("it is a map").iter();
    let all: Vec<&String> = all.filter(|(_, value)| is_unit(value)).map(|(name, _)| name).collect();
    assert!(all.len() > 200, "{}", all.len());
    let unknown = all.iter().filter(|name| units::of_quantity(name).is_none() != units::has_no_code(name));
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&&String>::new());
}

#[test]
fn an_interface_is_chosen() {
    check_example(
        "ConferenceRoom.json",
        expect![[r#"
        job.yaml:3:19: the file has 2 interfaces
          help: say which: model: {dtdl: {file: .., interface: ..}}; there are: dtmi:com:example:Room;1, dtmi:com:example:ConferenceRoom;1
    "#]],
    );
    check_example(
        "{file: ConferenceRoom.json, interface: \"dtmi:com:example:Rom;1\"}",
        expect![[r#"
        job.yaml:3:26: there is no interface `dtmi:com:example:Rom;1` in the file
          help: did you mean `dtmi:com:example:Room;1`?
    "#]],
    );
}

#[test]
fn contents_and_schemas() {
    check_contents(
        r#"{"@type": ["Telemetry", "Event"], "name": "hot", "displayName": {"it": "caldo", "en": "hot"}, "schema": "double"}"#,
        expect![[r#"
            events.hot: {"type":"double","description":"hot"}
        "#]],
    );
    check_contents(
        r#"[{"@type": "dtmi:dtdl:class:Telemetry;3", "name": "t", "schema": "dtmi:dtdl:instance:Schema:float;2"}]"#,
        expect![[r#"
            properties.t: {"type":"double"}
        "#]],
    );
    check_contents(
        r#"[{"@type": "Property", "name": "mode", "schema": {"@type": "Enum", "valueSchema": "string", "enumValues": [{"name": "Idle", "enumValue": "idle"}, {"name": "Run", "enumValue": "run"}]}}]"#,
        expect![[r#"
            properties.mode: {"type":"enum","values":["idle","run"]}
        "#]],
    );
    check_contents(
        r#"[{"@type": "Property", "name": "mode", "schema": {"@type": "Enum", "valueSchema": "string", "enumValues": []}}]"#,
        expect![[r#"
            m.json:2:93: note: the property `mode` is not carried over: its enum has no words, the same twice, or texts beside numbers
              help: declare it in the type, with a kind that fits
        "#]],
    );
    check_contents(
        r#"[{"@type": "Property", "name": "a", "schema": {"@type": "Array", "elementSchema": {"@type": "Enum", "valueSchema": "integer", "enumValues": []}}},
{"@type": "Property", "name": "b", "schema": {"@type": "Array", "elementSchema": {"@type": "Object"}}},
{"@type": "Property", "name": "c", "schema": {"@type": "Array", "elementSchema": "point"}},
{"@type": "Property", "name": "d", "schema": "dobule"},
{"@type": "Property", "name": "e"},
{"@type": ["Telemetry", "DataSize"], "name": "f", "schema": "long", "unit": "zebibyte"},
{"@type": ["Telemetry", "DataSize"], "name": "g", "schema": "long", "unit": "sack"}]"#,
        expect![[r#"
            properties.a: {"type":"array","items":"integer"}
            properties.f: {"type":"integer"}
            properties.g: {"type":"integer"}
            m.json:3:82: note: the property `b` is not carried over: an array holds numbers, booleans or texts
              help: declare it in the type, with a kind that fits
            m.json:4:82: note: the property `c` is not carried over: an array holds numbers, booleans or texts
              help: declare it in the type, with a kind that fits
            m.json:5:46: note: the property `d` is not carried over: there is no schema `dobule`
              help: write one of boolean, date, dateTime, double, duration, float, integer, long, string, time, or add it to `schemas` of the interface
            m.json:6:1: note: the property `e` is not carried over: it has no schema
              help: add "schema": "double"
            m.json:7:77: note: the unit `zebibyte` of the property `f` is not carried over: UCUM has no code for it
              help: declare the property in the type, with a UCUM code as its unit
            m.json:8:77: note: the unit `sack` of the property `g` is not carried over: it is none of quantitativeTypes
              help: declare the property in the type, with a UCUM code as its unit
        "#]],
    );
    check_contents(
        r#"[{"@type": "Telemtry", "name": "t", "schema": "double"}]"#,
        expect![[r#"
        m.json:2:12: `Telemtry` is no kind of content
          help: did you mean `Telemetry`?
    "#]],
    );
    check_contents(
        r#"[{"@type": "Telemetry", "schema": "double"}]"#,
        expect![[r#"
        m.json:2:2: the Telemetry has no name
          help: add "name": ".."
    "#]],
    );
    check_contents(
        r#"[{"@type": "Property", "name": "a_b", "schema": "double"},
{"@type": "Component", "name": "a", "schema": {"@type": "Interface", "contents": [{"@type": "Property", "name": "b", "schema": "string"}, {"@type": "Component", "name": "c", "schema": "dtmi:a:B;1"}]}}]"#,
        expect![[r#"
            properties.a_b: {"type":"double"}
            m.json:3:113: note: the property `a_b` is not carried over: another has that name
              help: declare it in the type under a name of its own
            m.json:3:170: note: the component `a_c` is not carried over: it is a component of a component
              help: DTDL allows none; have its interface among `contents` of the interface itself
        "#]],
    );
}

/// An interface of this name, with this beside.
fn interface(name: &str, beside: &str) -> String {
    format!(
        "{{\"@context\": [\"dtmi:dtdl:context;3\"], \"@id\": \"dtmi:a:{name};1\", \"@type\": \"Interface\", {beside}}}"
    )
}

#[test]
fn interfaces_that_extend() {
    let property = |name: &str| {
        format!("\"contents\": [{{\"@type\": \"Property\", \"name\": \"{name}\", \"schema\": \"double\"}}]")
    };
    let diamond = [
        interface("A", &format!("\"extends\": [\"dtmi:a:B;1\", \"dtmi:a:C;1\"], {}", property("a"))),
        interface("B", &format!("\"extends\": \"dtmi:a:D;1\", {}", property("b"))),
        interface("C", &format!("\"extends\": \"dtmi:a:D;1\", {}", property("c"))),
        interface("D", &property("d")),
    ];
    let of_a = "{dtdl: {file: m.json, interface: \"dtmi:a:A;1\"}}";
    check(
        &[("m.json", &format!("[{}]", diamond.join(",\n")))],
        of_a,
        expect![[r#"
        properties.a: {"type":"double"}
        properties.b: {"type":"double"}
        properties.d: {"type":"double"}
        properties.c: {"type":"double"}
    "#]],
    );
    let inline = interface(
        "A",
        &format!("\"extends\": {{\"@type\": \"Interface\", {}}}, {}", property("b"), property("a")),
    );
    check(
        &[("m.json", &inline)],
        "{dtdl: m.json}",
        expect![[r#"
        properties.a: {"type":"double"}
        properties.b: {"type":"double"}
    "#]],
    );
    let circle = [
        interface("A", "\"extends\": \"dtmi:a:B;1\""),
        interface("B", "\"extends\": \"dtmi:a:C;1\""),
        interface("C", "\"extends\": [\"dtmi:a:B;1\"]"),
    ];
    check(
        &[("m.json", &format!("[{}]", circle.join(",\n")))],
        of_a,
        expect![[r#"
        m.json:3:94: the interface extends itself: dtmi:a:B;1 -> dtmi:a:C;1 -> dtmi:a:B;1
          help: take one of these `extends` out
    "#]],
    );
    let mut deep: Vec<String> = (0..11)
        .map(|n| interface(&format!("I{n}"), &format!("\"extends\": \"dtmi:a:I{};1\"", n + 1)))
        .collect();
    deep.push(interface("I11", &property("p")));
    let file = format!("[{}]", deep.join(",\n"));
    check(
        &[("m.json", &file)],
        "{dtdl: {file: m.json, interface: \"dtmi:a:I0;1\"}}",
        expect![[r#"
        m.json:10:94: more than 10 levels of interfaces extend each other
          help: DTDL allows no more; make the hierarchy flatter
    "#]],
    );
    check(
        &[("m.json", &file)],
        "{dtdl: {file: m.json, interface: \"dtmi:a:I2;1\"}}",
        expect![[r#"
        properties.p: {"type":"double"}
    "#]],
    );
    check(
        &[("m.json", &circle[0])],
        "{dtdl: m.json}",
        expect![[r#"
        m.json:1:93: there is no interface `dtmi:a:B;1`
          help: add it to the file, or as dtmi/a/b-1.json
    "#]],
    );
}

#[test]
fn what_is_no_interface() {
    check(
        &[("m.json", "[]")],
        "{dtdl: m.json}",
        expect![[r#"
        m.json:1:1: the file has no Interface
          help: add one, or name another file
    "#]],
    );
    check(
        &[("m.json", "{\"@type\": \"Telemetry\"}")],
        "{dtdl: m.json}",
        expect![[r#"
        m.json:1:11: this is no Interface
          help: a file has one Interface or a list of them: {"@type": "Interface", ..}
    "#]],
    );
    check(
        &[("m.json", "{\"@type\": \"Interface\", \"@id\": \"dtmi:a;1\"}")],
        "{dtdl: m.json}",
        expect![[r#"
            m.json:1:1: the Interface does not say that it is of DTDL
              help: write "@context": "dtmi:dtdl:context;3", first where there are several
        "#]],
    );
    let of_version = |version: &str| {
        format!("{{\"@type\": \"Interface\", \"@context\": \"dtmi:dtdl:context;{version}\"}}")
    };
    check(
        &[("m.json", &of_version("4"))],
        "{dtdl: m.json}",
        expect![[r#"
        m.json:1:36: version 4 of DTDL is not read, 2 and 3 are
          help: write "@context": "dtmi:dtdl:context;3", first where there are several
    "#]],
    );
    check(
        &[("m.json", &of_version("3"))],
        "{dtdl: m.json}",
        expect![[r#"
        m.json:1:1: the Interface has no `@id`
          help: add "@id": "dtmi:com:example:Thermostat;1"
    "#]],
    );
    let twice = interface("A", "\"contents\": []");
    check(
        &[("m.json", &format!("[{twice},\n{twice}]"))],
        "{dtdl: m.json}",
        expect![[r#"
        m.json:2:46: `dtmi:a:A;1` stands here twice
          help: rename or remove one
    "#]],
    );
}
