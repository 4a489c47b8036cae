//! The public items of a crate, found in what rustdoc says of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::text;
use crate::Outcome;

/// What rustdoc says of each crate, by its name.
#[derive(Default)]
pub(super) struct Crates {
    by_name: BTreeMap<String, Value>,
}

/// An item of one of the crates.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// What rustdoc says of the crate that holds the item.
    json: &'a Value,
    item: &'a Value,
}

impl Crates {
    pub(super) fn add(&mut self, name: &str, json: Value) {
        self.by_name.insert(name.to_owned(), json);
    }

    /// One line for each public item of the crate `name`, sorted by path.
    pub(super) fn list(&self, name: &str) -> Outcome<Vec<String>> {
        let unknown = || format!("rustdoc says nothing of `{name}` that is understood");
        let json = self.by_name.get(name).ok_or_else(unknown)?;
        let item = item(json, &json["root"]).ok_or_else(unknown)?;
        let mut listing = Listing { crates: self, lines: BTreeSet::new(), inside: Vec::new() };
        listing.module(Place { json, item }, name);
        Ok(listing.lines.into_iter().map(|(_, _, line)| line).collect())
    }

    /// The item with this id as seen from `json`, wherever it is defined.
    fn find<'a>(&'a self, json: &'a Value, id: &Value) -> Option<Place<'a>> {
        if let Some(item) = item(json, id) {
            return Some(Place { json, item });
        }
        let path = &entry(json, "paths", id)?["path"];
        let json = self.by_name.get(path[0].as_str()?)?;
        let defined =
            |(_, known): &(&String, &Value)| known["crate_id"] == 0 && known["path"] == *path;
        let (id, _) = json["paths"].as_object()?.iter().find(defined)?;
        Some(Place { json, item: &json["index"][id] })
    }
}

struct Listing<'a> {
    crates: &'a Crates,
    /// The path of each line, whether it implements a trait, and its text: sorted like this, a
    /// type comes first, then the traits it implements, then its parts.
    lines: BTreeSet<(String, bool, String)>,
    /// The modules being listed, from the outermost: one that shows itself inside itself ends.
    inside: Vec<&'a Value>,
}

impl<'a> Listing<'a> {
    fn line(&mut self, path: &str, line: String) {
        self.lines.insert((path.to_owned(), line.starts_with("impl"), line));
    }

    fn module(&mut self, module: Place<'a>, path: &str) {
        if self.inside.iter().any(|outer| std::ptr::eq(*outer, module.item)) {
            return;
        }
        self.inside.push(module.item);
        for id in list(&module.item["inner"]["module"]["items"]) {
            if let Some(item) = item(module.json, id) {
                self.item(Place { item, ..module }, path, text::name(item));
            }
        }
        self.inside.pop();
    }

    /// Lists `place` as `name` in the module `parent`.
    fn item(&mut self, place: Place<'a>, parent: &str, name: &str) {
        let path = format!("{parent}::{name}");
        let Some((kind, inner)) = text::kind(place.item) else { return };
        match kind {
            "module" => {
                self.line(&path, format!("mod {path}"));
                self.module(place, &path);
            }
            "use" => self.re_export(place, inner, parent),
            "struct" | "enum" | "union" => self.data_type(place, kind, inner, &path),
            "trait" => {
                self.line(&path, text::with_attributes(place.item, &text::trait_(inner, &path)));
                self.members(place, &inner["items"], &path, true);
            }
            _ => {
                let said = text::simple(kind, inner, &path);
                self.line(&path, text::with_attributes(place.item, &said));
            }
        }
    }

    fn re_export(&mut self, place: Place<'a>, inner: &'a Value, parent: &str) {
        let name = inner["name"].as_str().unwrap_or_default();
        let source = inner["source"].as_str().unwrap_or_default();
        let glob = inner["is_glob"] == true;
        match self.crates.find(place.json, &inner["id"]) {
            Some(target) if glob && text::kind(target.item).is_some_and(|k| k.0 == "module") => {
                self.module(target, parent);
            }
            Some(target) if !glob => self.item(target, parent, name),
            // Of another crate: its own documentation says what it is.
            _ if glob => self.line(parent, format!("use {parent}::* = {source}::*")),
            _ => {
                let path = format!("{parent}::{name}");
                let line = format!("use {path} = {source}");
                self.line(&path, line);
            }
        }
    }

    fn data_type(&mut self, place: Place<'a>, kind: &str, inner: &'a Value, path: &str) {
        let shape = match text::kind_of_struct(inner) {
            Some(("tuple", fields)) => tuple(place.json, fields),
            _ => String::new(),
        };
        let declared = text::declaration(kind, path, &inner["generics"], &shape);
        self.line(path, text::with_attributes(place.item, &declared));
        let fields = match text::kind_of_struct(inner) {
            Some(("plain", plain)) => &plain["fields"],
            _ => &inner["fields"],
        };
        for field in list(fields).filter_map(|id| item(place.json, id)) {
            let path = format!("{path}::{}", text::name(field));
            self.line(&path, format!("field {path}: {}", text::of_type(text::field(field))));
        }
        for variant in list(&inner["variants"]).filter_map(|id| item(place.json, id)) {
            let shape = variant_shape(place.json, &variant["inner"]["variant"]);
            let path = format!("{path}::{}", text::name(variant));
            let said = format!("variant {path}{shape}");
            self.line(&path, text::with_attributes(variant, &said));
        }
        for implementation in list(&inner["impls"]).filter_map(|id| item(place.json, id)) {
            let inner = &implementation["inner"]["impl"];
            if inner["trait"].is_null() {
                self.members(place, &inner["items"], path, false);
            } else if let Some(said) = text::implementation(inner, path) {
                self.line(path, said);
                for member in list(&inner["items"]).filter_map(|id| item(place.json, id)) {
                    if let Some(said) = text::associated_in(inner, member, path) {
                        self.line(path, said);
                    }
                }
            }
        }
    }

    /// Functions, constants and types that belong to a type or trait.
    fn members(&mut self, place: Place<'a>, ids: &'a Value, path: &str, of_trait: bool) {
        for member in list(ids).filter_map(|id| item(place.json, id)) {
            let Some((kind, inner)) = text::kind(member) else { continue };
            let path = format!("{path}::{}", text::name(member));
            let mut said = text::simple(kind, inner, &path);
            if of_trait && inner["has_body"] == true {
                said += " { .. }";
            }
            self.line(&path, text::with_attributes(member, &said));
        }
    }
}

/// What a variant holds, and its number if it has one.
fn variant_shape(json: &Value, variant: &Value) -> String {
    let value = match variant["discriminant"]["value"].as_str() {
        Some(value) => format!(" = {value}"),
        None => String::new(),
    };
    let shape = match variant["kind"].as_object().and_then(|kind| kind.iter().next()) {
        Some((kind, fields)) if kind == "tuple" => tuple(json, fields),
        Some((_, fields)) => {
            let fields = list(&fields["fields"]).filter_map(|id| item(json, id));
            let said =
                fields.map(|f| format!("{}: {}", text::name(f), text::of_type(text::field(f))));
            format!(" {{ {} }}", said.collect::<Vec<_>>().join(", "))
        }
        None => String::new(),
    };
    shape + &value
}

fn tuple(json: &Value, fields: &Value) -> String {
    // A private field has no id; what it is, is nobody's business, that it is there, is.
    let said = list(fields)
        .map(|id| item(json, id).map_or("_".into(), |field| text::of_type(text::field(field))));
    format!("({})", said.collect::<Vec<_>>().join(", "))
}

/// The entry of `table` for an id, which is a number as a value and text as a key.
fn entry<'a>(json: &'a Value, table: &str, id: &Value) -> Option<&'a Value> {
    let key = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    json[table].get(&key)
}

fn item<'a>(json: &'a Value, id: &Value) -> Option<&'a Value> {
    entry(json, "index", id)
}

fn list(ids: &Value) -> impl Iterator<Item = &Value> {
    ids.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}
