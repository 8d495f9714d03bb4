//! Units that names tell: `temperature_c`, `energy_kwh`, `supplyVoltage`.

/// Last words of names, and the UCUM code that each stands for.
const UNITS: &[(&str, &str)] = &[
    ("celsius", "Cel"),
    ("cel", "Cel"),
    ("degc", "Cel"),
    ("fahrenheit", "[degF]"),
    ("degf", "[degF]"),
    ("kelvin", "K"),
    ("kwh", "kW.h"),
    ("mwh", "MW.h"),
    ("wh", "W.h"),
    ("kw", "kW"),
    ("watt", "W"),
    ("watts", "W"),
    ("kva", "kV.A"),
    ("volt", "V"),
    ("volts", "V"),
    ("voltage", "V"),
    ("mv", "mV"),
    ("kv", "kV"),
    ("amp", "A"),
    ("amps", "A"),
    ("ampere", "A"),
    ("ma", "mA"),
    ("hz", "Hz"),
    ("khz", "kHz"),
    ("hertz", "Hz"),
    ("pa", "Pa"),
    ("hpa", "hPa"),
    ("kpa", "kPa"),
    ("mbar", "mbar"),
    ("bar", "bar"),
    ("percent", "%"),
    ("pct", "%"),
    ("ms", "ms"),
    ("millis", "ms"),
    ("sec", "s"),
    ("seconds", "s"),
    ("mm", "mm"),
    ("cm", "cm"),
    ("km", "km"),
    ("kg", "kg"),
    ("m3", "m3"),
    ("lux", "lx"),
    ("ppm", "[ppm]"),
];

/// Single letters, which are units only behind a word that says what is measured.
const LETTERS: &[(&str, &str, &str)] = &[
    ("temp", "c", "Cel"),
    ("temp", "f", "[degF]"),
    ("temp", "k", "K"),
    ("volt", "v", "V"),
    ("curr", "a", "A"),
    ("power", "w", "W"),
    ("dist", "m", "m"),
    ("length", "m", "m"),
];

/// The unit of a value with this name.
pub(super) fn of(name: &str) -> Option<&'static str> {
    let words = words(name);
    let last = words.last()?;
    if let Some((_, code)) = UNITS.iter().find(|(word, _)| word == last) {
        return Some(code);
    }
    let before = words.iter().rev().nth(1)?;
    let found = LETTERS.iter().find(|(begin, letter, _)| before.starts_with(begin) && letter == last);
    found.map(|(_, _, code)| *code)
}

/// The words of a name, in lower case: `supplyVoltage_mV` is supply, voltage, mv.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let (mut was_small, mut is_new) = (false, true);
    for c in name.chars() {
        if !c.is_alphanumeric() {
            (was_small, is_new) = (false, true);
            continue;
        }
        // `mV` is one word, `supplyVoltage` two.
        let is_hump = was_small && c.is_uppercase() && words.last().is_some_and(|word| word.len() > 1);
        if is_new || is_hump {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase());
        }
        (was_small, is_new) = (c.is_lowercase(), false);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_units_or_do_not() {
        for (name, unit) in [
            ("temperature_c", Some("Cel")),
            ("temperatureC", Some("Cel")),
            ("temp.f", Some("[degF]")),
            ("energy_kwh", Some("kW.h")),
            ("supplyVoltage", Some("V")),
            ("supply_mV", Some("mV")),
            ("period_ms", Some("ms")),
            ("temperature", None),
            ("vitamin_c", None),
            ("iot.sensor.temperature", None),
            ("c", None),
            ("", None),
        ] {
            assert_eq!(of(name), unit, "{name}");
        }
    }
}
