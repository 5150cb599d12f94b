use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, Linker};

use crate::admission;
use crate::bindings::belfry::projector::{events, types};
use crate::bindings::{NotificationProjector, NotificationProjectorPre};
use crate::guest::{Guest, wasi};

/// Links a component with the functions that it may import, and checks the types of those that it exports.
pub(crate) fn link(component: &Component, engine: &Engine) -> wasmtime::Result<NotificationProjectorPre<Guest>> {
    let mut linker = Linker::new(engine);
    NotificationProjector::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest: &mut Guest| guest)?;
    wasi::link(&mut linker, component, engine)?;
    check_functions(component, engine)?;
    NotificationProjectorPre::new(linker.instantiate_pre(component)?)
}

/// Checks the types of the exported functions, which linking leaves to the first instantiation.
fn check_functions(component: &Component, engine: &Engine) -> wasmtime::Result<()> {
    let world = component.component_type();
    let defined = world.instance_type();
    let export = world.get_export(engine, &admission::exported_interface()).map(|export| export.ty);
    // Its presence was checked before.
    let Some(ComponentItem::ComponentInstance(interface)) = export else { return Ok(()) };
    let function = |name: &str| match interface.get_export(engine, name).map(|export| export.ty) {
        Some(ComponentItem::ComponentFunc(function)) => Ok(function),
        _ => Err(wasmtime::Error::msg(format!("it does not export `{name}`"))),
    };
    function("describe")?.typecheck::<(), (types::Description,)>(&defined)?;
    function("check-config")?.typecheck::<(), (Result<(), String>,)>(&defined)?;
    let project = function("project")?;
    project.typecheck::<(&events::Event, &types::Context), (Result<types::Answer, types::Rejection>,)>(&defined)
}
