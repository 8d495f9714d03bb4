//! A module that was found good, and the instances of it that wait to be used again.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use wasmi::errors::{ErrorKind, InstantiationError, MemoryError};
use wasmi::{
    CompilationMode, Config, Engine, ExternType, FuncType, Linker, Store, StoreLimits, StoreLimitsBuilder,
    TrapCode, ValType,
};

use super::instance::{Instance, Live};
use super::{Abi, WasmError, WasmSettings};

/// Most bytes of a module.
const MODULE_BYTES_MAX: usize = 4 << 20;
/// How a module in bytes begins; other modules are text.
const MAGIC: &[u8] = b"\0asm";
/// Entries of a module's tables: functions that it calls through pointers.
const TABLE_ENTRIES_MAX: usize = 100_000;
/// Instances that wait for use; as many stacks are kept.
const POOL_MAX: usize = 64;

/// A module that is ready for calls. Clones are the same one.
#[derive(Clone)]
pub struct Module {
    inner: Arc<Inner>,
}

struct Inner {
    module: wasmi::Module,
    abi: Abi,
    settings: WasmSettings,
    pool: Mutex<Vec<Live>>,
}

impl Module {
    /// Takes a module, as bytes or as text (WAT), and makes an instance of it, so that what can be known of it is
    /// known.
    pub fn compile(source: &[u8], settings: &WasmSettings) -> Result<Self, WasmError> {
        settings.check().map_err(WasmError::Settings)?;
        if source.len() > MODULE_BYTES_MAX {
            return Err(WasmError::TooLarge { bytes: source.len() });
        }
        let bytes = if source.starts_with(MAGIC) { source.to_vec() } else { from_text(source)? };
        let mut config = Config::default();
        config
            .consume_fuel(true)
            // What is wrong is known now, and the first call costs what others do.
            .compilation_mode(CompilationMode::Eager)
            .ignore_custom_sections(true)
            .wasm_multi_memory(false)
            .set_max_cached_stacks(POOL_MAX);
        let invalid = |error: wasmi::Error| WasmError::Invalid(error.to_string());
        let module = wasmi::Module::new(&Engine::new(&config), bytes).map_err(invalid)?;
        if let Some(import) = module.imports().next() {
            return Err(WasmError::Import {
                kind: kind(import.ty()),
                module: import.module().to_owned(),
                name: import.name().to_owned(),
            });
        }
        let abi = abi(&module)?;
        let inner = Inner { module, abi, settings: settings.clone(), pool: Mutex::default() };
        let module = Self { inner: Arc::new(inner) };
        module.give_back(module.live().map_err(WasmError::Start)?);
        Ok(module)
    }

    /// How it is called.
    pub fn abi(&self) -> Abi {
        self.inner.abi
    }

    /// What calls it. One that was used before, where there is one; made with the first call, else.
    pub fn instance(&self) -> Instance {
        let live = self.inner.pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Instance::new(self.clone(), live)
    }

    pub(super) fn settings(&self) -> &WasmSettings {
        &self.inner.settings
    }

    /// Keeps an instance for who asks for one next.
    pub(super) fn give_back(&self, live: Live) {
        let mut pool = self.inner.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < POOL_MAX {
            pool.push(live);
        }
    }

    /// Makes an instance; says why there is none.
    pub(super) fn live(&self) -> Result<Live, String> {
        let Inner { module, abi, settings, .. } = &*self.inner;
        let why = |error: wasmi::Error| reason(&error, settings);
        let mut store = Store::new(module.engine(), limits(settings));
        store.limiter(|limits| limits);
        store.set_fuel(settings.fuel).map_err(why)?;
        let linker = Linker::new(module.engine());
        let instance = linker.instantiate_and_start(&mut store, module).map_err(why)?;
        if let Ok(initialize) = instance.get_typed_func::<(), ()>(&store, "_initialize") {
            initialize.call(&mut store, ()).map_err(why)?;
        }
        Live::new(store, &instance, *abi).ok_or_else(|| "its exports are gone".to_owned())
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("abi", &self.inner.abi).finish_non_exhaustive()
    }
}

fn from_text(source: &[u8]) -> Result<Vec<u8>, WasmError> {
    let neither = "it begins like neither a module (\\0asm) nor the text of one (a parenthesis)";
    let text = std::str::from_utf8(source).map_err(|_| WasmError::Invalid(neither.to_owned()))?;
    wat::parse_str(text).map_err(|error| WasmError::Invalid(error.to_string()))
}

fn limits(settings: &WasmSettings) -> StoreLimits {
    StoreLimitsBuilder::new()
        .memory_size(settings.memory.as_u64() as usize)
        .table_elements(TABLE_ENTRIES_MAX)
        // Few programs look whether they got memory; a trap says what is missing.
        .trap_on_grow_failure(true)
        .build()
}

/// What went wrong, for people.
pub(super) fn reason(error: &wasmi::Error, settings: &WasmSettings) -> String {
    let is_memory = match error.kind() {
        ErrorKind::TrapCode(code) => *code == TrapCode::GrowthOperationLimited,
        ErrorKind::Instantiation(InstantiationError::FailedToInstantiateMemory(error)) => {
            matches!(error, MemoryError::ResourceLimiterDeniedAllocation)
        }
        _ => false,
    };
    if is_memory {
        return format!(
            "it needs more than its memory of {}; raise `memory`",
            settings.memory.display().si()
        );
    }
    if error.as_trap_code() == Some(TrapCode::OutOfFuel) {
        return format!(
            "it used up its fuel of {}; if it does not loop for ever, raise `fuel`",
            settings.fuel
        );
    }
    error.to_string()
}

fn kind(of: &ExternType) -> &'static str {
    match of {
        ExternType::Func(_) => "function",
        ExternType::Memory(_) => "memory",
        ExternType::Table(_) => "table",
        ExternType::Global(_) => "global",
    }
}

/// Which interface a module has.
fn abi(module: &wasmi::Module) -> Result<Abi, WasmError> {
    let wrong = |text: String| Err(WasmError::Exports(text));
    let Some(ExternType::Func(call)) = module.get_export("call") else {
        let names: Vec<&str> = module.exports().map(|export| export.name()).collect();
        return wrong(format!("it exports no function `call` (only: {})", names.join(", ")));
    };
    let is_numbers = call.params().iter().all(|ty| *ty == ValType::F64) && !call.params().is_empty();
    if is_numbers && call.results() == [ValType::F64] {
        return Ok(Abi::Numbers { inputs: call.params().len() });
    }
    if call.params() != [ValType::I32; 2] || call.results() != [ValType::I64] {
        return wrong(format!("its `call` is {}", signature(&call)));
    }
    if !matches!(module.get_export("memory"), Some(ExternType::Memory(_))) {
        return wrong("it exports no memory `memory`".to_owned());
    }
    match module.get_export("alloc") {
        Some(ExternType::Func(alloc))
            if alloc.params() == [ValType::I32] && alloc.results() == [ValType::I32] =>
        {
            Ok(Abi::Bytes)
        }
        Some(ExternType::Func(alloc)) => wrong(format!("its `alloc` is {}", signature(&alloc))),
        _ => wrong("it exports no function `alloc`".to_owned()),
    }
}

/// As it is written in the text of a module.
fn signature(of: &FuncType) -> String {
    let list = |types: &[ValType]| {
        types.iter().map(|ty| format!("{ty:?}").to_lowercase()).collect::<Vec<_>>().join(", ")
    };
    format!("({}) -> ({})", list(of.params()), list(of.results()))
}
