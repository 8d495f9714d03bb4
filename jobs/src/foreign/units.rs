//! Units of other vocabularies as UCUM codes: those of DTDL's quantitativeTypes by their names, and what Thing Models
//! write, which may be anything: a UCUM code, a sign, a word, a term of OM or QUDT.

/// Names of quantitativeTypes, and what they are in UCUM. Those without a code there are in [`WITHOUT_CODE`].
const NAMES: &[(&str, &str)] = &[
    ("acre", "[acr_us]"),
    ("ampere", "A"),
    ("ampereHour", "A.h"),
    ("astronomicalUnit", "AU"),
    ("bar", "bar"),
    ("becquerel", "Bq"),
    ("bel", "B[SPL]"),
    ("bit", "bit"),
    ("bitPerSecond", "bit/s"),
    ("britishThermalUnit", "[Btu_IT]"),
    ("britishThermalUnitPerHour", "[Btu_IT]/h"),
    ("byte", "By"),
    ("bytePerSecond", "By/s"),
    ("candela", "cd"),
    ("candelaPerSquareMetre", "cd/m2"),
    ("centimetre", "cm"),
    ("centimetrePerSecond", "cm/s"),
    ("centimetrePerSecondSquared", "cm/s2"),
    ("coulomb", "C"),
    ("cubicCentimetre", "cm3"),
    ("cubicFoot", "[cft_i]"),
    ("cubicFootPerMinute", "[cft_i]/min"),
    ("cubicInch", "[cin_i]"),
    ("cubicMetre", "m3"),
    ("cubicMetrePerHour", "m3/h"),
    ("cubicMetrePerMinute", "m3/min"),
    ("cubicMetrePerSecond", "m3/s"),
    ("day", "d"),
    ("decapascal", "daPa"),
    ("decibel", "dB[SPL]"),
    ("degreeCelsius", "Cel"),
    ("degreeFahrenheit", "[degF]"),
    ("degreeOfArc", "deg"),
    ("degreePerSecond", "deg/s"),
    ("electronvolt", "eV"),
    ("farad", "F"),
    ("fluidOunce", "[foz_us]"),
    ("foot", "[ft_i]"),
    ("footcandle", "lm/[sft_i]"),
    ("gForce", "[g]"),
    ("gallon", "[gal_us]"),
    ("gallonPerHour", "[gal_us]/h"),
    ("gallonPerMinute", "[gal_us]/min"),
    ("gauss", "G"),
    ("gibibit", "Gibit"),
    ("gibibitPerSecond", "Gibit/s"),
    ("gibibyte", "GiBy"),
    ("gibibytePerSecond", "GiBy/s"),
    ("gigabecquerel", "GBq"),
    ("gigahertz", "GHz"),
    ("gigajoule", "GJ"),
    ("gigajoulePerHour", "GJ/h"),
    ("gigavoltAmpere", "GV.A"),
    ("gigavoltAmpereHour", "GV.A.h"),
    ("gigavoltAmpereReactive", "GV.A{reactive}"),
    ("gigavoltAmpereReactiveHour", "GV.A{reactive}.h"),
    ("gigawatt", "GW"),
    ("gigawattHour", "GW.h"),
    ("gram", "g"),
    ("gramPerCubicMetre", "g/m3"),
    ("gramPerHour", "g/h"),
    ("gramPerSecond", "g/s"),
    ("gray", "Gy"),
    ("hectare", "har"),
    ("hectopascal", "hPa"),
    ("henry", "H"),
    ("hertz", "Hz"),
    ("horsepower", "[HP]"),
    ("hour", "h"),
    ("inch", "[in_i]"),
    ("inchesOfMercury", "[in_i'Hg]"),
    ("inchesOfWater", "[in_i'H2O]"),
    ("joule", "J"),
    ("joulePerHour", "J/h"),
    ("joulePerSecond", "J/s"),
    ("kelvin", "K"),
    ("kibibit", "Kibit"),
    ("kibibitPerSecond", "Kibit/s"),
    ("kibibyte", "KiBy"),
    ("kibibytePerSecond", "KiBy/s"),
    ("kiloBritishThermalUnit", "k[Btu_IT]"),
    ("kiloBritishThermalUnitPerHour", "k[Btu_IT]/h"),
    ("kiloampere", "kA"),
    ("kilobecquerel", "kBq"),
    ("kilogram", "kg"),
    ("kilogramPerCubicMetre", "kg/m3"),
    ("kilogramPerHour", "kg/h"),
    ("kilogramPerSecond", "kg/s"),
    ("kilohertz", "kHz"),
    ("kilojoule", "kJ"),
    ("kilojoulePerHour", "kJ/h"),
    ("kilojoulePerSecond", "kJ/s"),
    ("kilometre", "km"),
    ("kilometrePerHour", "km/h"),
    ("kilometrePerSecond", "km/s"),
    ("kiloohm", "kOhm"),
    ("kilopascal", "kPa"),
    ("kilovolt", "kV"),
    ("kilovoltAmpere", "kV.A"),
    ("kilovoltAmpereHour", "kV.A.h"),
    ("kilovoltAmpereReactive", "kV.A{reactive}"),
    ("kilovoltAmpereReactiveHour", "kV.A{reactive}.h"),
    ("kilowatt", "kW"),
    ("kilowattHour", "kW.h"),
    ("kilowattHourPerYear", "kW.h/a"),
    ("knot", "[kn_i]"),
    ("litre", "L"),
    ("litrePerHour", "L/h"),
    ("litrePerMinute", "L/min"),
    ("litrePerSecond", "L/s"),
    ("lumen", "lm"),
    ("lux", "lx"),
    ("massPound", "[lb_av]"),
    ("massPoundPerHour", "[lb_av]/h"),
    ("maxwell", "Mx"),
    ("mebibit", "Mibit"),
    ("mebibitPerSecond", "Mibit/s"),
    ("mebibyte", "MiBy"),
    ("mebibytePerSecond", "MiBy/s"),
    ("megabecquerel", "MBq"),
    ("megaelectronvolt", "MeV"),
    ("megahertz", "MHz"),
    ("megajoule", "MJ"),
    ("megajoulePerHour", "MJ/h"),
    ("megaohm", "MOhm"),
    ("megavolt", "MV"),
    ("megavoltAmpere", "MV.A"),
    ("megavoltAmpereHour", "MV.A.h"),
    ("megavoltAmpereReactive", "MV.A{reactive}"),
    ("megavoltAmpereReactiveHour", "MV.A{reactive}.h"),
    ("megawatt", "MW"),
    ("megawattHour", "MW.h"),
    ("metre", "m"),
    ("metrePerHour", "m/h"),
    ("metrePerSecond", "m/s"),
    ("metrePerSecondSquared", "m/s2"),
    ("microampere", "uA"),
    ("microfarad", "uF"),
    ("microgram", "ug"),
    ("microgramPerCubicMetre", "ug/m3"),
    ("microgray", "uGy"),
    ("microhenry", "uH"),
    ("micrometre", "um"),
    ("microsecond", "us"),
    ("microsievert", "uSv"),
    ("microvolt", "uV"),
    ("microwatt", "uW"),
    ("mile", "[mi_i]"),
    ("milePerHour", "[mi_i]/h"),
    ("milePerSecond", "[mi_i]/s"),
    ("milliampere", "mA"),
    ("milliampereHour", "mA.h"),
    ("millibar", "mbar"),
    ("millifarad", "mF"),
    ("milligram", "mg"),
    ("milligramPerCubicMetre", "mg/m3"),
    ("milligray", "mGy"),
    ("millihenry", "mH"),
    ("millihertz", "mHz"),
    ("millilitre", "mL"),
    ("millilitrePerHour", "mL/h"),
    ("millilitrePerMinute", "mL/min"),
    ("millilitrePerSecond", "mL/s"),
    ("millimetre", "mm"),
    ("millimetresOfMercury", "mm[Hg]"),
    ("milliohm", "mOhm"),
    ("millisecond", "ms"),
    ("millisievert", "mSv"),
    ("millivolt", "mV"),
    ("millivoltAmpere", "mV.A"),
    ("millivoltAmpereReactive", "mV.A{reactive}"),
    ("milliwatt", "mW"),
    ("milliwattHour", "mW.h"),
    ("minute", "min"),
    ("minuteOfArc", "'"),
    ("nanofarad", "nF"),
    ("nanometre", "nm"),
    ("nanosecond", "ns"),
    ("nauticalMile", "[nmi_i]"),
    ("newton", "N"),
    ("newtonMetre", "N.m"),
    ("ohm", "Ohm"),
    ("ounce", "[lbf_av]/16"),
    ("partsPerBillion", "[ppb]"),
    ("partsPerMillion", "[ppm]"),
    ("partsPerQuadrillion", "10*-15"),
    ("partsPerTrillion", "[pptr]"),
    ("pascal", "Pa"),
    ("percent", "%"),
    ("picofarad", "pF"),
    ("pound", "[lbf_av]"),
    ("poundPerSquareInch", "[psi]"),
    ("radian", "rad"),
    ("radianPerSecond", "rad/s"),
    ("radianPerSecondSquared", "rad/s2"),
    ("revolutionPerMinute", "{rev}/min"),
    ("revolutionPerSecond", "{rev}/s"),
    ("second", "s"),
    ("secondOfArc", "''"),
    ("sievert", "Sv"),
    ("slug", "[lbf_av].s2/[ft_i]"),
    ("squareCentimetre", "cm2"),
    ("squareFoot", "[sft_i]"),
    ("squareInch", "[sin_i]"),
    ("squareKilometre", "km2"),
    ("squareMetre", "m2"),
    ("squareMillimetre", "mm2"),
    ("tebibit", "Tibit"),
    ("tebibitPerSecond", "Tibit/s"),
    ("tebibyte", "TiBy"),
    ("tebibytePerSecond", "TiBy/s"),
    ("terawattHour", "TW.h"),
    ("tesla", "T"),
    ("ton", "2000.[lbf_av]"),
    ("tonOfRefrigeration", "12000.[Btu_IT]/h"),
    ("tonne", "t"),
    ("turn", "circ"),
    ("unity", "1"),
    ("volt", "V"),
    ("voltAmpere", "V.A"),
    ("voltAmpereHour", "V.A.h"),
    ("voltAmpereReactive", "V.A{reactive}"),
    ("voltAmpereReactiveHour", "V.A{reactive}.h"),
    ("watt", "W"),
    ("wattHour", "W.h"),
    ("wattPerSquareMetre", "W/m2"),
    ("weber", "Wb"),
    ("year", "a"),
];

/// Signs, words and terms of QUDT that stand in Thing Models.
const WORDS: &[(&str, &str)] = &[
    ("°C", "Cel"),
    ("℃", "Cel"),
    ("degC", "Cel"),
    ("DEG_C", "Cel"),
    ("celsius", "Cel"),
    ("degrees celsius", "Cel"),
    ("°F", "[degF]"),
    ("degF", "[degF]"),
    ("DEG_F", "[degF]"),
    ("fahrenheit", "[degF]"),
    ("°", "deg"),
    ("degree", "deg"),
    ("degrees", "deg"),
    ("PERCENT", "%"),
    ("percentage", "%"),
    ("kWh", "kW.h"),
    ("Wh", "W.h"),
    ("MWh", "MW.h"),
    ("mAh", "mA.h"),
    ("Ah", "A.h"),
    ("KiloW-HR", "kW.h"),
    ("W-HR", "W.h"),
    ("KiloW", "kW"),
    ("MegaW", "MW"),
    ("VA", "V.A"),
    ("kVA", "kV.A"),
    ("lux", "lx"),
    ("ppm", "[ppm]"),
    ("ppb", "[ppb]"),
    ("rpm", "{rev}/min"),
    ("REV-PER-MIN", "{rev}/min"),
    ("psi", "[psi]"),
    ("µs", "us"),
    ("µm", "um"),
    ("µg/m³", "ug/m3"),
    ("µg/m3", "ug/m3"),
    ("m³", "m3"),
    ("m²", "m2"),
    ("m³/h", "m3/h"),
    ("m/s²", "m/s2"),
    ("Ω", "Ohm"),
    ("dB", "dB"),
    ("DECIBEL", "dB"),
    ("sec", "s"),
    ("seconds", "s"),
    ("milliseconds", "ms"),
    ("MilliSEC", "ms"),
    ("minutes", "min"),
    ("hours", "h"),
    ("HR", "h"),
    ("days", "d"),
    ("km/hr", "km/h"),
    ("kmh", "km/h"),
    ("kph", "km/h"),
    ("mph", "[mi_i]/h"),
    ("KiloM-PER-HR", "km/h"),
    ("M-PER-SEC", "m/s"),
    ("CentiM", "cm"),
    ("MilliM", "mm"),
    ("KiloM", "km"),
    ("KiloPA", "kPa"),
    ("HectoPA", "hPa"),
    ("KiloGM", "kg"),
    ("L-PER-MIN", "L/min"),
    ("M3-PER-HR", "m3/h"),
    ("mbar", "mbar"),
];

/// Begins of names of quantitativeTypes for which UCUM has neither prefix nor unit.
const WITHOUT_CODE: [&str; 3] = ["exbi", "zebi", "yobi"];

/// What UCUM is made of: atoms that take prefixes, and others.
const ATOMS: &[&str] = &[
    "m", "g", "s", "A", "K", "mol", "cd", "rad", "sr", "Hz", "N", "Pa", "J", "W", "C", "V", "F", "Ohm", "S",
    "Wb", "T", "H", "lm", "lx", "Bq", "Gy", "Sv", "L", "l", "bar", "eV", "t", "bit", "By", "Bd", "G", "B",
    "Cel",
];
const OTHERS: &[&str] =
    &["%", "1", "min", "h", "d", "wk", "mo", "a", "deg", "'", "''", "har", "AU", "Mx", "circ", "10*"];
const PREFIXES: &[&str] = &[
    "Y", "Z", "E", "P", "T", "G", "M", "k", "h", "da", "d", "c", "m", "u", "n", "p", "f", "a", "z", "y",
    "Ki", "Mi", "Gi", "Ti",
];

/// The code of a unit of quantitativeTypes; `None` where UCUM has none, or there is no such unit.
pub(super) fn of_quantity(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, code)| *code)
}

/// Whether it is a unit that UCUM has no code for.
pub(super) fn has_no_code(name: &str) -> bool {
    WITHOUT_CODE.iter().any(|begin| name.starts_with(begin))
}

/// The code of a unit as it is written in a Thing Model, as far as it is known.
pub(super) fn of_text(text: &str) -> Option<String> {
    let text = text.trim();
    // Terms are `unit:DEG_C`, `om2:degreeCelsius`, `http://qudt.org/vocab/unit/DEG_C`.
    let local = match text.contains("://") {
        true => text.rsplit(['#', '/']).next().unwrap_or(text),
        false => text.rsplit(':').next().unwrap_or(text),
    };
    let local = local.replace('μ', "µ");
    if is_code(&local) {
        return Some(local);
    }
    let known = |(name, code): &(&str, &str), is_same: &dyn Fn(&str) -> bool| {
        is_same(name).then(|| (*code).to_owned())
    };
    let all = || NAMES.iter().chain(WORDS);
    let exactly = all().find_map(|pair| known(pair, &|name| name == local));
    let word = local.to_lowercase().replace("meter", "metre").replace("liter", "litre");
    exactly.or_else(|| {
        all().find_map(|pair| {
            known(pair, &|name| name.to_lowercase() == word || format!("{}s", name.to_lowercase()) == word)
        })
    })
}

/// Whether a text is a UCUM code of the usual units. Special units in brackets are taken as they are.
fn is_code(text: &str) -> bool {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain && text.trim_start_matches('/').split(['.', '/']).all(is_term)
}

fn is_term(term: &str) -> bool {
    let atom = term.split('{').next().unwrap_or(term);
    if atom.is_empty() {
        return term.ends_with('}');
    }
    if !atom.starts_with("10*") && atom.bytes().all(|byte| byte.is_ascii_digit()) {
        return true;
    }
    let atom = match atom.strip_prefix("10*") {
        Some(_) => return true,
        None => atom.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(['+', '-']),
    };
    let is_atom = |atom: &str| ATOMS.contains(&atom) || atom.starts_with('[') && atom.ends_with(']');
    is_atom(atom)
        || OTHERS.contains(&atom)
        || PREFIXES.iter().any(|prefix| atom.strip_prefix(prefix).is_some_and(is_atom))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_thing_models_are_understood() {
        for (text, code) in [
            ("Cel", Some("Cel")),
            ("kW.h", Some("kW.h")),
            ("W/m2", Some("W/m2")),
            ("{rev}/min", Some("{rev}/min")),
            ("[degF]", Some("[degF]")),
            ("/min", Some("/min")),
            ("10*-6", Some("10*-6")),
            ("%", Some("%")),
            ("K", Some("K")),
            ("°C", Some("Cel")),
            ("celsius", Some("Cel")),
            ("Celsius", Some("Cel")),
            ("om2:degreeCelsius", Some("Cel")),
            ("om2:percent", Some("%")),
            ("qudt:DEG_C", Some("Cel")),
            ("http://qudt.org/vocab/unit/KiloW-HR", Some("kW.h")),
            ("kWh", Some("kW.h")),
            ("lux", Some("lx")),
            ("Meter", Some("m")),
            ("meters", Some("m")),
            ("litres", Some("L")),
            ("µg/m³", Some("ug/m3")),
            ("milliseconds", Some("ms")),
            ("bananas", None),
            ("", None),
            ("om2:cubicBananas", None),
        ] {
            assert_eq!(of_text(text).as_deref(), code, "{text}");
        }
    }

    #[test]
    fn every_code_is_one() {
        for (name, code) in NAMES.iter().chain(WORDS) {
            let known = ["mm[Hg]", "k[Btu_IT]", "dB[SPL]", "B[SPL]", "k[Btu_IT]/h"];
            assert!(is_code(code) || known.contains(code), "{name}: {code}");
            assert!(operators::model::check_unit(code).is_ok(), "{name}: {code}");
        }
    }
}
