//! Names the item in which a component's types differ from those of the contract.

use std::sync::LazyLock;

use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{Function, Handle, Interface, PackageName, Resolve, Type, TypeDefKind, TypeId};

/// The contract's text.
const TEXT: &str = include_str!("../../../wit/projector.wit");

static CONTRACT: LazyLock<Resolve> = LazyLock::new(|| {
    let mut contract = Resolve::default();
    contract.push_str("projector.wit", TEXT).expect("the contract is valid");
    contract
});

/// Returns the first item that a component declares differently from the contract, in words. `None` if the component's
/// types cannot be determined, or if there is no such item.
pub(crate) fn difference(component: &[u8]) -> Option<String> {
    let Ok(DecodedWasm::Component(found, _)) = decode(component) else { return None };
    difference_of(&found)
}

fn difference_of(found: &Resolve) -> Option<String> {
    interfaces(&CONTRACT).find_map(|(name, expected)| {
        let (_, other) = interfaces(found).find(|(found, _)| *found == name)?;
        function_difference(found, other, expected).or_else(|| type_difference(found, other, expected))
    })
}

/// Returns the interfaces of the contract's package, by name. Versions were compared before.
fn interfaces(resolve: &Resolve) -> impl Iterator<Item = (&str, &Interface)> {
    resolve.interfaces.iter().filter_map(|(_, interface)| {
        let PackageName { namespace, name, .. } = &resolve.packages[interface.package?].name;
        (namespace == "belfry" && name == "projector").then_some((interface.name.as_deref()?, interface))
    })
}

fn function_difference(found: &Resolve, other: &Interface, expected: &Interface) -> Option<String> {
    expected.functions.iter().find_map(|(name, expected)| {
        // Imports that a rule does not call are absent.
        let function = other.functions.get(name)?;
        let ours = params(&CONTRACT, expected);
        let theirs = params(found, function);
        if ours != theirs {
            return Some(format!("`{name}` takes ({theirs}), this host's contract has ({ours})"));
        }
        let ours = result(&CONTRACT, expected);
        let theirs = result(found, function);
        (ours != theirs).then(|| format!("`{name}` returns {theirs}, this host's contract has {ours}"))
    })
}

fn type_difference(found: &Resolve, other: &Interface, expected: &Interface) -> Option<String> {
    expected.types.iter().find_map(|(name, id)| {
        let (ours, theirs) = (parts(&CONTRACT, *id), parts(found, *other.types.get(name)?));
        let kind = CONTRACT.types[*id].kind.as_str();
        let missing = ours.iter().find(|part| !theirs.contains(part));
        let unknown = theirs.iter().find(|part| !ours.contains(part));
        match (missing, unknown) {
            (Some(missing), _) => {
                Some(format!("the {kind} `{name}` lacks `{missing}`, which this host's contract has"))
            }
            (None, Some(unknown)) => {
                Some(format!("the {kind} `{name}` has `{unknown}`, which this host's contract lacks"))
            }
            (None, None) if ours != theirs => {
                Some(format!("the {kind} `{name}` has its parts in another order than in this host's contract"))
            }
            (None, None) => None,
        }
    })
}

fn params(resolve: &Resolve, function: &Function) -> String {
    let params = function.params.iter().map(|param| text(resolve, &param.ty));
    params.collect::<Vec<_>>().join(", ")
}

fn result(resolve: &Resolve, function: &Function) -> String {
    function.result.as_ref().map_or_else(|| "nothing".to_owned(), |result| text(resolve, result))
}

/// Returns the parts of a type, such as the fields of a record.
fn parts(resolve: &Resolve, id: TypeId) -> Vec<String> {
    let case = |name: &str, ty: Option<&Type>| match ty {
        Some(ty) => format!("{name}({})", text(resolve, ty)),
        None => name.to_owned(),
    };
    match &resolve.types[id].kind {
        TypeDefKind::Record(record) => {
            record.fields.iter().map(|field| format!("{}: {}", field.name, text(resolve, &field.ty))).collect()
        }
        TypeDefKind::Variant(variant) => {
            variant.cases.iter().map(|variant| case(&variant.name, variant.ty.as_ref())).collect()
        }
        TypeDefKind::Enum(named) => named.cases.iter().map(|case| case.name.clone()).collect(),
        TypeDefKind::Type(ty) => vec![text(resolve, &resolved(resolve, *ty))],
        _ => vec![structure(resolve, id)],
    }
}

/// Follows `use` and `type x = y` to the type itself.
fn resolved(resolve: &Resolve, ty: Type) -> Type {
    match ty {
        Type::Id(id) => match resolve.types[id].kind {
            TypeDefKind::Type(inner) => resolved(resolve, inner),
            _ => ty,
        },
        _ => ty,
    }
}

/// Returns a type as the contract's language writes it. A component may declare an alias such as `json` or not, so an
/// alias counts as the type that it names.
fn text(resolve: &Resolve, ty: &Type) -> String {
    match resolved(resolve, *ty) {
        Type::Id(id) => resolve.types[id].name.clone().unwrap_or_else(|| structure(resolve, id)),
        Type::Bool => "bool".into(),
        Type::U8 => "u8".into(),
        Type::U16 => "u16".into(),
        Type::U32 => "u32".into(),
        Type::U64 => "u64".into(),
        Type::S8 => "s8".into(),
        Type::S16 => "s16".into(),
        Type::S32 => "s32".into(),
        Type::S64 => "s64".into(),
        Type::F32 => "f32".into(),
        Type::F64 => "f64".into(),
        Type::Char => "char".into(),
        Type::String => "string".into(),
        Type::ErrorContext => "error-context".into(),
    }
}

fn structure(resolve: &Resolve, id: TypeId) -> String {
    let text = |ty: &Type| text(resolve, ty);
    match &resolve.types[id].kind {
        TypeDefKind::Option(ty) => format!("option<{}>", text(ty)),
        TypeDefKind::List(ty) => format!("list<{}>", text(ty)),
        TypeDefKind::Result(result) => {
            let [ok, err] = [&result.ok, &result.err].map(|ty| ty.as_ref().map_or_else(|| "_".to_owned(), text));
            format!("result<{ok}, {err}>")
        }
        TypeDefKind::Tuple(tuple) => {
            format!("tuple<{}>", tuple.types.iter().map(text).collect::<Vec<_>>().join(", "))
        }
        TypeDefKind::Handle(Handle::Own(_) | Handle::Borrow(_)) => "a resource".into(),
        other => other.as_str().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the first difference of a package whose text is that of the contract with one change.
    fn changed(before: &str, after: &str) -> Option<String> {
        assert!(TEXT.contains(before), "{before}");
        let mut found = Resolve::default();
        found.push_str("changed.wit", &TEXT.replace(before, after)).expect("the changed text is valid");
        difference_of(&found)
    }

    #[test]
    fn the_item_that_differs_is_named() {
        assert_eq!(changed("list<withdrawal>", "list<withdrawal>"), None);
        for (before, after, message) in [
            (
                "result<answer, rejection>",
                "result<list<string>, rejection>",
                "`project` returns result<list<string>, rejection>, this host's contract has result<answer, rejection>",
            ),
            (
                "    thread: option<string>,\n",
                "",
                "the record `notification` lacks `thread: option<string>`, which this host's contract has",
            ),
            (
                "    code: string,\n",
                "    code: string,\n    more: u8,\n",
                "the record `rejection` has `more: u8`, which this host's contract lacks",
            ),
            (
                "    limit: u32,\n",
                "    limit: u64,\n",
                "the record `throttle` lacks `limit: u32`, which this host's contract has",
            ),
        ] {
            assert_eq!(changed(before, after).as_deref(), Some(message));
        }
    }
}
