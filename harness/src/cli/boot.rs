// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail boot`: a kernel to the agent's first message; and how arguments say how guests are run.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nstrail::{
    kernel,
    outcome::Outcome,
    plan::{date::Date, known_splats::KnownSplats},
    report::{
        escape::{lines, one_line},
        summary::ConsoleSummary,
        verdict::splat_line,
    },
    run::{
        drive::{self, Booted},
        execute::{AUDIT_PARAMETERS, GuestConfig, kernel_failure},
        judge,
    },
    vm::{
        Limits, VmSpec,
        accelerator::AcceleratorChoice,
        agent,
        fallback::{Carried, Chosen},
        initramfs,
    },
};
use nstrail_wire::version::KernelVersion;

use super::{
    args::{AccelArg, BootArgs, GuestArgs},
    build::{self, named_kernel},
    context::Context,
    exit::Ending,
    progress::Progress,
};

/// Time limits of a boot alone.
const WALL: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_secs(20);
const MEMORY_MIB: u32 = 512;

/// How the arguments say that guests are run.
pub fn guest(context: &Context, args: &GuestArgs) -> Result<GuestConfig, Ending> {
    let settings = &context.settings;
    let accelerator = match (args.accel, settings.accel.as_deref()) {
        (Some(AccelArg::Auto), _) | (None, None | Some("auto")) => AcceleratorChoice::Auto,
        (Some(AccelArg::Kvm), _) | (None, Some("kvm")) => AcceleratorChoice::Kvm,
        (Some(AccelArg::Tcg), _) | (None, Some("tcg")) => AcceleratorChoice::Tcg,
        (None, Some(other)) => {
            return Err(Ending::Usage(format!(
                "nstrail.toml: accel is `{other}`, expected auto, kvm or tcg"
            )));
        }
    };
    Ok(GuestConfig {
        qemu: std::env::var_os("NSTRAIL_QEMU").unwrap_or_else(|| "qemu-system-x86_64".into()).into(),
        accelerator,
        vcpus: args.vcpus.or(settings.vcpus),
        wall: args.wall.map(|seconds| Duration::from_secs(seconds.into())),
        silence: args.silence.map(|seconds| Duration::from_secs(seconds.into())),
        perturbation: args.perturb.unwrap_or_default(),
        append: args.append.clone(),
        known_splats: known_splats(context, args)?,
    })
}

fn known_splats(context: &Context, args: &GuestArgs) -> Result<KnownSplats, Ending> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let today = Date::of_unix(since_1970.as_secs());
    let named = args.splats.known_splats.clone().or_else(|| context.settings.known_splats.clone());
    let path = match named {
        Some(path) => path,
        // Nobody need have one.
        None => match context.project().map_err(Ending::Usage)?.known_splats() {
            path if path.exists() => path,
            _ => return Ok(KnownSplats::none(today)),
        },
    };
    KnownSplats::read(&path, today).map_err(|error| Ending::Usage(error.to_string()))
}

pub fn boot(context: &Context, args: &BootArgs) -> Ending {
    let named = match named_kernel(context, &args.kernel) {
        Ok(named) => named,
        Err(ending) => return ending,
    };
    let (store, guest, project) =
        match (build::store(context), guest(context, &args.guest), context.project()) {
            (Ok(store), Ok(guest), Ok(project)) => (store, guest, project),
            (Err(ending), ..) | (_, Err(ending), _) => return ending,
            (.., Err(message)) => return Ending::Usage(message),
        };
    let mut progress = Progress::new(context.quiet, context.terminal);
    let image = match kernel::build(&store, &named.spec, &mut |event| build::show(&mut progress, &event)) {
        Ok(image) => image,
        Err(error) => {
            let failure = kernel_failure(&error);
            return Ending::Failed(failure.outcome, failure.message);
        }
    };
    let prepared = Chosen::new(guest.accelerator, &guest.qemu, store.root())
        .map_err(|error| Ending::error(&error))
        .and_then(|chosen| Ok((chosen, agent::load(project.root()).map_err(|error| Ending::error(&error))?)));
    let (chosen, agent) = match prepared {
        Ok(prepared) => prepared,
        Err(ending) => return ending,
    };
    let decision = chosen.decision();
    progress.line(&format!("accelerator {}: {}", decision.accelerator.word(), decision.reason));
    let folder = match tempfile::Builder::new().prefix("nstrail-boot-").tempdir() {
        Ok(folder) => folder,
        Err(error) => return Ending::error(&format!("cannot make a temporary folder: {error}")),
    };
    let initrd = folder.path().join("initrd.cpio");
    if let Err(error) = std::fs::write(&initrd, initramfs::archive(&agent)) {
        return Ending::error(&format!("cannot write {}: {error}", initrd.display()));
    }
    let silence = guest.silence.unwrap_or(SILENCE);
    let slowdown = image.slowdown;
    let spec = |accelerator| VmSpec {
        qemu: guest.qemu.clone(),
        kernel: image.vmlinux.clone(),
        initrd: initrd.clone(),
        vcpus: guest.vcpus.or(guest.perturbation.vcpus).unwrap_or(1),
        memory_mib: MEMORY_MIB,
        accelerator: guest.perturbation.accelerator(accelerator),
        perturbation: guest.perturbation,
        cmdline: AUDIT_PARAMETERS
            .iter()
            .copied()
            .chain(guest.perturbation.parameter)
            .map(str::to_owned)
            // Who asks for the console wants all of it (KUnit reports on KERN_INFO).
            .chain(args.console.then(|| "loglevel=7".to_owned()))
            .chain(guest.append.clone())
            .collect(),
        run_dir: folder.path().to_owned(),
        share: None,
        limits: Limits {
            wall: guest.wall.unwrap_or(WALL),
            silence,
            first_sign: chosen.first_sign(accelerator, silence, slowdown),
        },
    };
    let booted = chosen.carry(|accelerator| drive::boot(&spec(accelerator)), Booted::mute);
    let Carried { result: booted, refuted } = match booted {
        Ok(carried) => carried,
        Err(error) => return Ending::error(&error),
    };
    if refuted {
        progress.warning(&format!("accelerator tcg: {}", chosen.decision().reason));
    }
    drop(progress);
    let Booted { result, console, boot: time } = booted;
    let splats = judge::console(&console, &guest.known_splats, KernelVersion::of(&image.version));
    let expired = guest.known_splats.expired();
    for splat in splats.iter().filter(|splat| !splat.counts()) {
        eprintln!("nstrail: the console shows: {}", one_line(&splat_line(splat)));
    }
    if args.console {
        let console = std::fs::read(folder.path().join("console.log")).unwrap_or_default();
        print!("{}", lines(&String::from_utf8_lossy(&console)));
    }
    match result {
        Err(ending) => Ending::Failed(ending.outcome(), ending.reason().unwrap_or_default()),
        Ok(_) if splats.iter().any(ConsoleSummary::counts) => {
            let words: Vec<String> = splats.iter().filter(|splat| splat.counts()).map(splat_line).collect();
            Ending::Failed(
                Outcome::Crashed,
                format!("it booted, but the console shows: {}", words.join(", ")),
            )
        }
        Ok(_) if !expired.is_empty() => Ending::Failed(Outcome::Failed, expired.join("\n")),
        Ok(release) => {
            if !args.console {
                println!("{}", one_line(&release));
            }
            eprintln!("nstrail: booted in {:.2} s", time.as_secs_f64());
            Ending::Done
        }
    }
}
