//! Items and types of rustdoc's JSON, written as in a source.
//!
//! A type is named by the last part of its path, as in code. What is not known here is shown as
//! JSON rather than dropped, so that a change of it is still a change of the listing.

use serde_json::Value;

/// The kind of an item, and what is said of it.
pub(super) fn kind(item: &Value) -> Option<(&str, &Value)> {
    let (kind, inner) = item["inner"].as_object()?.iter().next()?;
    Some((kind, inner))
}

/// The shape of a struct: `unit`, `tuple` with its fields, or `plain` with its fields.
pub(super) fn kind_of_struct(inner: &Value) -> Option<(&str, &Value)> {
    match &inner["kind"] {
        Value::String(unit) => Some((unit, &Value::Null)),
        kind => kind.as_object()?.iter().next().map(|(kind, fields)| (kind.as_str(), fields)),
    }
}

pub(super) fn name(item: &Value) -> &str {
    item["name"].as_str().unwrap_or_default()
}

/// The type of a field.
pub(super) fn field(item: &Value) -> &Value {
    &item["inner"]["struct_field"]
}

/// `said`, with the attributes before it that users depend on.
pub(super) fn with_attributes(item: &Value, said: &str) -> String {
    let told = list(&item["attrs"]).filter_map(|attribute| match attribute {
        Value::String(name) if name == "non_exhaustive" => Some("#[non_exhaustive] "),
        Value::Object(known) if known.contains_key("must_use") => Some("#[must_use] "),
        _ => None,
    });
    told.collect::<String>() + said
}

pub(super) fn declaration(kind: &str, path: &str, generics: &Value, shape: &str) -> String {
    format!("{kind} {path}{}{shape}{}", parameters(generics), conditions(generics))
}

pub(super) fn trait_(inner: &Value, path: &str) -> String {
    let marks = marks(&[(&inner["is_unsafe"], "unsafe "), (&inner["is_auto"], "auto ")]);
    let generics = &inner["generics"];
    let (parameters, conditions) = (parameters(generics), conditions(generics));
    format!("{marks}trait {path}{parameters}{}{conditions}", after_colon(&inner["bounds"]))
}

/// An item that fits one line: a function, constant, alias, macro or associated item.
pub(super) fn simple(kind: &str, inner: &Value, path: &str) -> String {
    let type_ = || of_type(&inner["type"]);
    match kind {
        "function" => function(inner, path),
        "constant" => {
            let value = &inner["const"];
            let known = value["value"].as_str().or(value["expr"].as_str()).unwrap_or("_");
            format!("const {path}: {} = {known}", type_())
        }
        "static" => {
            let mutable = if inner["is_mutable"] == true { "mut " } else { "" };
            format!("static {mutable}{path}: {}", type_())
        }
        "type_alias" => declaration("type", path, &inner["generics"], &format!(" = {}", type_())),
        "assoc_const" => {
            let value = inner["value"].as_str().map_or(String::new(), |v| format!(" = {v}"));
            format!("associated const {path}: {}{value}", type_())
        }
        "assoc_type" => {
            let value =
                if inner["type"].is_null() { String::new() } else { format!(" = {}", type_()) };
            let shape = after_colon(&inner["bounds"]) + &value;
            declaration("associated type", path, &inner["generics"], &shape)
        }
        "macro" => {
            let text = inner.as_str().unwrap_or_default();
            format!("macro {path}! {}", text.split_whitespace().collect::<Vec<_>>().join(" "))
        }
        _ => format!("{kind} {path} {inner}"),
    }
}

fn function(inner: &Value, path: &str) -> String {
    let (header, generics) = (&inner["header"], &inner["generics"]);
    format!(
        "{}fn {path}{}{}{}",
        qualifiers(header),
        parameters(generics),
        signature(&inner["sig"], true),
        conditions(generics)
    )
}

/// The header of the implementation of a trait, or nothing for what every type has.
pub(super) fn implementation(inner: &Value, path: &str) -> Option<String> {
    let of = last_part(inner["trait"]["path"].as_str()?);
    let thread_safety = matches!(of, "Send" | "Sync");
    let silent = inner["is_synthetic"] == true && !thread_safety;
    // The last comes along with a derived `PartialEq`, and nobody can name it.
    if silent || !inner["blanket_impl"].is_null() || of == "StructuralPartialEq" {
        return None;
    }
    let not = if inner["is_negative"] == true { "!" } else { "" };
    let generics = &inner["generics"];
    Some(format!(
        "impl{} {not}{} for {}{}",
        parameters(generics),
        path_with_arguments(&inner["trait"]),
        for_type(&inner["for"], path),
        conditions(generics)
    ))
}

/// A type that the implementation of a trait chooses.
pub(super) fn associated_in(inner: &Value, member: &Value, path: &str) -> Option<String> {
    let chosen = member["inner"].get("assoc_type")?;
    let of = path_with_arguments(&inner["trait"]);
    let for_ = for_type(&inner["for"], path);
    let generics = parameters(&inner["generics"]);
    let (name, chosen) = (name(member), of_type(&chosen["type"]));
    Some(format!("impl{generics} {of} for {for_} {{ type {name} = {chosen} }}"))
}

/// The type an implementation is for, under the path by which users know it.
fn for_type(for_: &Value, path: &str) -> String {
    match for_.get("resolved_path") {
        Some(resolved) => format!("{path}{}", arguments(&resolved["args"])),
        None => of_type(for_),
    }
}

fn qualifiers(header: &Value) -> String {
    let abi = match &header["abi"] {
        Value::Object(abi) => {
            abi.keys().next().map_or(String::new(), |name| format!("extern \"{name}\" "))
        }
        _ => String::new(),
    };
    let marks = marks(&[
        (&header["is_const"], "const "),
        (&header["is_async"], "async "),
        (&header["is_unsafe"], "unsafe "),
    ]);
    marks + &abi
}

fn marks(marks: &[(&Value, &str)]) -> String {
    marks.iter().filter(|(set, _)| **set == true).map(|(_, mark)| *mark).collect()
}

fn signature(signature: &Value, named: bool) -> String {
    let inputs = list(&signature["inputs"]).map(|input| {
        let (name, type_) = (input[0].as_str().unwrap_or("_"), of_type(&input[1]));
        match (name, type_.as_str()) {
            ("self", "Self") => "self".into(),
            ("self", "&Self") => "&self".into(),
            ("self", "&mut Self") => "&mut self".into(),
            _ if named => format!("{name}: {type_}"),
            _ => type_,
        }
    });
    format!("({}){}", joined(inputs), result(&signature["output"]))
}

fn result(output: &Value) -> String {
    if output.is_null() { String::new() } else { format!(" -> {}", of_type(output)) }
}

/// `<'a, T: Bound, const N: usize>`, without what `impl Trait` arguments add silently.
fn parameters(generics: &Value) -> String {
    let said: Vec<_> = list(&generics["params"])
        .filter(|parameter| parameter["kind"]["type"]["is_synthetic"] != true)
        .map(parameter)
        .collect();
    if said.is_empty() { String::new() } else { format!("<{}>", said.join(", ")) }
}

fn parameter(parameter: &Value) -> String {
    let name = name(parameter);
    let kind = &parameter["kind"];
    if let Some(lifetime) = kind.get("lifetime") {
        let outlives = list(&lifetime["outlives"]).filter_map(Value::as_str).collect::<Vec<_>>();
        return match outlives.as_slice() {
            [] => name.into(),
            outlives => format!("{name}: {}", outlives.join(" + ")),
        };
    }
    if let Some(constant) = kind.get("const") {
        let default = constant["default"].as_str().map_or(String::new(), |d| format!(" = {d}"));
        return format!("const {name}: {}{default}", of_type(&constant["type"]));
    }
    let type_ = &kind["type"];
    let default = match &type_["default"] {
        Value::Null => String::new(),
        default => format!(" = {}", of_type(default)),
    };
    format!("{name}{}{default}", after_colon(&type_["bounds"]))
}

/// ` where ..`, or nothing.
fn conditions(generics: &Value) -> String {
    let said: Vec<_> = list(&generics["where_predicates"])
        .map(|predicate| {
            if let Some(bound) = predicate.get("bound_predicate") {
                let any = for_any(&bound["generic_params"]);
                format!("{any}{}{}", of_type(&bound["type"]), after_colon(&bound["bounds"]))
            } else if let Some(lifetime) = predicate.get("lifetime_predicate") {
                let outlives = list(&lifetime["outlives"]).filter_map(Value::as_str);
                let longer = outlives.collect::<Vec<_>>().join(" + ");
                format!("{}: {longer}", lifetime["lifetime"].as_str().unwrap_or("_"))
            } else {
                predicate.to_string()
            }
        })
        .collect();
    if said.is_empty() { String::new() } else { format!(" where {}", said.join(", ")) }
}

fn for_any(parameters: &Value) -> String {
    let said = joined(list(parameters).map(parameter));
    if said.is_empty() { said } else { format!("for<{said}> ") }
}

fn after_colon(bounds: &Value) -> String {
    let said = of_bounds(bounds);
    if said.is_empty() { said } else { format!(": {said}") }
}

fn of_bounds(bounds: &Value) -> String {
    list(bounds).map(bound).collect::<Vec<_>>().join(" + ")
}

fn bound(bound: &Value) -> String {
    if let Some(of) = bound.get("trait_bound") {
        let modifier = match of["modifier"].as_str() {
            Some("maybe") => "?",
            Some("maybe_const") => "~const ",
            _ => "",
        };
        let any = for_any(&of["generic_params"]);
        format!("{modifier}{any}{}", path_with_arguments(&of["trait"]))
    } else if let Some(lifetime) = bound["outlives"].as_str() {
        lifetime.into()
    } else if let Some(captured) = bound.get("use") {
        let names = list(captured).map(|of| {
            let name = of["param"].as_str().or(of["lifetime"].as_str()).or(of.as_str());
            name.unwrap_or("_").to_owned()
        });
        format!("use<{}>", joined(names))
    } else {
        bound.to_string()
    }
}

/// A type as one writes it.
pub(super) fn of_type(type_: &Value) -> String {
    let Some((kind, inner)) = type_.as_object().and_then(|of| of.iter().next()) else {
        // `infer` is the one kind without more to say.
        return if type_ == "infer" { "_".into() } else { type_.to_string() };
    };
    match kind.as_str() {
        "resolved_path" => path_with_arguments(inner),
        "primitive" if inner == "never" => "!".into(),
        "generic" | "primitive" => inner.as_str().unwrap_or("_").into(),
        "tuple" => {
            let one = inner.as_array().is_some_and(|types| types.len() == 1);
            format!("({}{})", joined(list(inner).map(of_type)), if one { "," } else { "" })
        }
        "slice" => format!("[{}]", of_type(inner)),
        "array" => {
            format!("[{}; {}]", of_type(&inner["type"]), inner["len"].as_str().unwrap_or("_"))
        }
        "borrowed_ref" => {
            let lifetime = inner["lifetime"].as_str().map_or(String::new(), |l| format!("{l} "));
            let mutable = if inner["is_mutable"] == true { "mut " } else { "" };
            format!("&{lifetime}{mutable}{}", behind(&inner["type"]))
        }
        "raw_pointer" => {
            let mutable = if inner["is_mutable"] == true { "mut" } else { "const" };
            format!("*{mutable} {}", behind(&inner["type"]))
        }
        "impl_trait" => format!("impl {}", of_bounds(inner)),
        "dyn_trait" => format!("dyn {}", of_object(inner)),
        "function_pointer" => {
            let any = for_any(&inner["generic_params"]);
            format!("{any}{}fn{}", qualifiers(&inner["header"]), signature(&inner["sig"], false))
        }
        "qualified_path" => qualified(inner),
        _ => type_.to_string(),
    }
}

/// A type behind a pointer: several bounds need parentheses there.
fn behind(type_: &Value) -> String {
    let said = of_type(type_);
    let several = type_.get("dyn_trait").is_some() && said.contains(" + ");
    if several { format!("({said})") } else { said }
}

fn of_object(inner: &Value) -> String {
    let traits = list(&inner["traits"])
        .map(|of| for_any(&of["generic_params"]) + &path_with_arguments(&of["trait"]));
    let lifetime = inner["lifetime"].as_str().map(str::to_owned);
    traits.chain(lifetime).collect::<Vec<_>>().join(" + ")
}

fn qualified(inner: &Value) -> String {
    let (self_type, name) = (of_type(&inner["self_type"]), name(inner));
    let arguments = arguments(&inner["args"]);
    let of = inner["trait"]["path"].as_str().unwrap_or_default();
    // rustdoc leaves the path empty where the source wrote `T::Name`.
    if of.is_empty() {
        format!("{self_type}::{name}{arguments}")
    } else {
        format!("<{self_type} as {}>::{name}{arguments}", path_with_arguments(&inner["trait"]))
    }
}

fn path_with_arguments(path: &Value) -> String {
    let written = path["path"].as_str().or(path["name"].as_str()).unwrap_or("_");
    format!("{}{}", short(written), arguments(&path["args"]))
}

/// The last part of a path; `Result` and `Error` keep the module that tells them apart.
fn short(path: &str) -> &str {
    let last = last_part(path);
    let Some(before) = path.strip_suffix(last).and_then(|rest| rest.strip_suffix("::")) else {
        return last;
    };
    let module = last_part(before);
    let ambiguous = matches!(last, "Result" | "Error") && matches!(module, "fmt" | "io");
    if ambiguous { &path[path.len() - last.len() - 2 - module.len()..] } else { last }
}

fn last_part(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

fn arguments(arguments: &Value) -> String {
    if let Some(inner) = arguments.get("parenthesized") {
        let inputs = joined(list(&inner["inputs"]).map(of_type));
        return format!("({inputs}){}", result(&inner["output"]));
    }
    let Some(inner) = arguments.get("angle_bracketed") else { return String::new() };
    let positional = list(&inner["args"]).map(argument);
    let constrained = list(&inner["constraints"]).map(constraint);
    let said = joined(positional.chain(constrained));
    if said.is_empty() { said } else { format!("<{said}>") }
}

fn argument(argument: &Value) -> String {
    if let Some(type_) = argument.get("type") {
        of_type(type_)
    } else if let Some(lifetime) = argument["lifetime"].as_str() {
        lifetime.into()
    } else if let Some(constant) = argument.get("const") {
        constant["expr"].as_str().unwrap_or("_").into()
    } else {
        "_".into()
    }
}

fn constraint(constraint: &Value) -> String {
    let name = format!("{}{}", name(constraint), arguments(&constraint["args"]));
    let binding = &constraint["binding"];
    match binding.get("equality") {
        Some(equal) => format!("{name} = {}", argument(equal)),
        None => format!("{name}{}", after_colon(&binding["constraint"])),
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

fn list(values: &Value) -> impl Iterator<Item = &Value> {
    values.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}
