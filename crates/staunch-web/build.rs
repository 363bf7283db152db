//! Gathers the page: our modules in `web/src`, and the pinned ones in `web/node_modules`, which
//! `npm ci --prefix web` puts there. Nothing is fetched and no other program is run. Where they are
//! missing the build goes on with a warning, and the binary serves plain tables instead.
//!
//! `STAUNCH_PAGE=required` makes that an error; `STAUNCH_PAGE=off` leaves the page out.

use std::{
    env,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Files in `web/src`; more are surely a mistake.
const SOURCES_MAX: usize = 256;

/// What modules import by name, and where the file is below `web/node_modules`.
const MODULES: [(&str, &str); 6] = [
    ("preact", "preact/dist/preact.module.js"),
    ("preact/hooks", "preact/hooks/dist/hooks.module.js"),
    (
        "@preact/signals-core",
        "@preact/signals-core/dist/signals-core.module.js",
    ),
    ("@preact/signals", "@preact/signals/dist/signals.module.js"),
    ("htm", "htm/dist/htm.module.js"),
    ("uplot", "uplot/dist/uPlot.esm.js"),
];
/// Packages that those belong to.
const PACKAGES: [&str; 5] = [
    "preact",
    "@preact/signals-core",
    "@preact/signals",
    "htm",
    "uplot",
];
/// Where the charts' style is below `web/node_modules`.
const CHART_STYLE: &str = "uplot/dist/uPlot.min.css";

/// A file of the page.
struct Asset {
    /// Below `assets/`, as modules name it.
    path: String,
    /// The same with its digest in it, as browsers ask for it.
    name: String,
    content: Vec<u8>,
}

fn main() -> anyhow::Result<()> {
    let manifest = env::var("CARGO_MANIFEST_DIR").context("cargo says where it is")?;
    let web = Path::new(&manifest).join("../../web");
    let out = PathBuf::from(env::var("OUT_DIR").context("cargo says where to")?);
    println!("cargo:rerun-if-env-changed=STAUNCH_PAGE");
    println!("cargo:rerun-if-changed=build.rs");
    let installed = web.join("node_modules/.package-lock.json");
    if installed.is_file() {
        for part in [
            "src",
            "package-lock.json",
            "node_modules/.package-lock.json",
        ] {
            println!("cargo:rerun-if-changed={}", web.join(part).display());
        }
    } else {
        // Whatever appears there is new.
        println!("cargo:rerun-if-changed={}", web.display());
    }
    let wish = env::var("STAUNCH_PAGE").unwrap_or_default();
    let gathered = if wish == "off" {
        write_nothing(&out)?;
        return Ok(());
    } else {
        gather(&web)
    };
    match gathered {
        Ok(assets) => write_page(&web, &out, &assets),
        Err(error) if wish == "required" => Err(error),
        Err(error) => {
            println!(
                "cargo:warning=without the web page, but plain tables: {error:#}; \
                 `npm ci --prefix web` before the build brings it"
            );
            write_nothing(&out)
        }
    }
}

fn gather(web: &Path) -> anyhow::Result<Vec<Asset>> {
    let modules = web.join("node_modules");
    ensure!(modules.is_dir(), "web/node_modules is not there");
    let lock = read_json(&web.join("package-lock.json"))?;
    for package in PACKAGES {
        let wanted = &lock["packages"][format!("node_modules/{package}")]["version"];
        let there = &read_json(&modules.join(package).join("package.json"))?["version"];
        ensure!(
            wanted.is_string() && wanted == there,
            "{package} is {there}, but the lock file has {wanted}"
        );
    }
    let mut assets = Vec::new();
    for (_, file) in MODULES {
        assets.push(module(&modules, file)?);
    }
    assets.push(asset(
        format!("lib/{CHART_STYLE}"),
        read(&modules.join(CHART_STYLE))?,
    ));
    assets.push(asset("licenses.txt".to_owned(), licenses(&modules)?));
    for path in sources(&web.join("src"))? {
        if path != "index.html" {
            let content = read(&web.join("src").join(&path))?;
            assets.push(asset(format!("src/{path}"), content));
        }
    }
    Ok(assets)
}

/// One of others' modules, without the name of its source map, which is not served.
fn module(modules: &Path, file: &str) -> anyhow::Result<Asset> {
    let text = String::from_utf8(read(&modules.join(file))?)?;
    let text = text
        .split("//# sourceMappingURL=")
        .next()
        .unwrap_or_default();
    Ok(asset(format!("lib/{file}"), text.as_bytes().to_vec()))
}

/// The terms of what is not ours.
fn licenses(modules: &Path) -> anyhow::Result<Vec<u8>> {
    let mut all = String::new();
    for package in PACKAGES {
        let text = String::from_utf8(read(&modules.join(package).join("LICENSE"))?)?;
        write!(all, "{package}\n\n{text}\n\n")?;
    }
    Ok(all.into_bytes())
}

/// All files below a folder, relative to it, in order.
fn sources(root: &Path) -> anyhow::Result<Vec<String>> {
    let (mut files, mut pending) = (Vec::new(), vec![String::new()]);
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(root.join(&folder)).context("web/src is not there")? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{folder}{name}");
            if entry.file_type()?.is_dir() {
                pending.push(format!("{path}/"));
            } else {
                files.push(path);
            }
            ensure!(files.len() <= SOURCES_MAX, "more than {SOURCES_MAX} files");
        }
    }
    files.sort();
    Ok(files)
}

fn asset(path: String, content: Vec<u8>) -> Asset {
    let digest = hex(&content);
    let name = match path.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}.{digest}.{extension}"),
        None => format!("{path}.{digest}"),
    };
    Asset {
        path,
        name,
        content,
    }
}

fn write_nothing(out: &Path) -> anyhow::Result<()> {
    let text = "pub(crate) static PAGE: Option<Page> = None;\n";
    fs::write(out.join("page.rs"), text).context("cannot write page.rs")
}

fn write_page(web: &Path, out: &Path, assets: &[Asset]) -> anyhow::Result<()> {
    let named = |path: &str| {
        let found = assets.iter().find(|asset| asset.path == path);
        let found = found.with_context(|| format!("there is no {path}"))?;
        anyhow::Ok(format!("./assets/{}", found.name))
    };
    let mut imports = serde_json::Map::new();
    for (name, file) in MODULES {
        imports.insert(name.to_owned(), named(&format!("lib/{file}"))?.into());
    }
    let is_ours = |path: &str| path.starts_with("src/") && extension(path) == Some("js");
    let ours = assets.iter().filter(|asset| is_ours(&asset.path));
    let mut preloads = String::new();
    for asset in ours {
        let name = named(&asset.path)?;
        imports.insert(format!("./assets/{}", asset.path), name.clone().into());
        writeln!(preloads, r#"<link rel="modulepreload" href="{name}">"#)?;
    }
    for (_, file) in &MODULES {
        let name = named(&format!("lib/{file}"))?;
        writeln!(preloads, r#"<link rel="modulepreload" href="{name}">"#)?;
    }
    let imports = json!({ "imports": imports }).to_string();
    let index = String::from_utf8(read(&web.join("src/index.html"))?)?
        .replace("%IMPORTS%", &imports)
        .replace("%PRELOADS%", preloads.trim_end())
        .replace("%ICON%", &named("src/icon.svg")?)
        .replace("%CHART_STYLE%", &named(&format!("lib/{CHART_STYLE}"))?)
        .replace("%STYLE%", &named("src/style.css")?)
        .replace("%START%", &named("src/start.js")?);
    ensure!(
        !index.contains('%'),
        "index.html has a %NAME% that nobody knows"
    );
    fs::write(out.join("index.html"), &index)?;
    let mut text = format!(
        "pub(crate) static PAGE: Option<Page> = Some(Page {{\n    index: include_str!(\"{}\"),\n    \
         etag: \"\\\"{}\\\"\",\n    imports_digest: \"{}\",\n    assets: &[\n",
        out.join("index.html").display(),
        hex(index.as_bytes()),
        STANDARD.encode(Sha256::digest(imports.as_bytes())),
    );
    for (number, asset) in assets.iter().enumerate() {
        let (plain, packed) = (
            out.join(format!("{number}")),
            out.join(format!("{number}.gz")),
        );
        fs::write(&plain, &asset.content)?;
        fs::write(&packed, pack(&asset.content)?)?;
        writeln!(
            text,
            "        Asset {{ path: {:?}, name: {:?}, kind: {:?}, plain: include_bytes!({:?}), packed: \
             include_bytes!({:?}) }},",
            asset.path,
            asset.name,
            kind(&asset.path)?,
            plain.display().to_string(),
            packed.display().to_string(),
        )?;
    }
    text.push_str("    ],\n});\n");
    fs::write(out.join("page.rs"), text).context("cannot write page.rs")
}

fn kind(path: &str) -> anyhow::Result<&'static str> {
    Ok(match extension(path) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        _ => bail!("{path}: what kind of file is that?"),
    })
}

fn pack(content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(content)?;
    Ok(packer.finish()?)
}

fn hex(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().take(6).fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a text takes all");
        text
    })
}

fn extension(path: &str) -> Option<&str> {
    path.rsplit_once('.').map(|(_, extension)| extension)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_json(path: &Path) -> anyhow::Result<Value> {
    serde_json::from_slice(&read(path)?).with_context(|| format!("{}", path.display()))
}
