//! Podman, Docker or buildah: what each is told, and which of them works here.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use tasks::{
    advice::explained,
    command::{Command, Failure, in_short, is_on_path},
    ctx::{Ctx, State},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Engine {
    kind: Kind,
    program: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Podman,
    Docker,
    Buildah,
}

/// In the order in which they are looked for.
const KINDS: [Kind; 3] = [Kind::Podman, Kind::Docker, Kind::Buildah];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Docker => "docker",
            Self::Buildah => "buildah",
        }
    }
}

impl Engine {
    /// The one that is asked for, or the first that answers: a client of Docker may lack its daemon.
    pub(crate) fn find(ctx: &Ctx, wanted: Option<&str>) -> Result<Self> {
        if let Some(program) = wanted {
            let engine = Self::named(program)?;
            engine.answers().with_context(|| format!("{program} does not work here"))?;
            return Ok(engine);
        }
        let mut failures = String::new();
        for kind in KINDS.into_iter().filter(|kind| is_on_path(kind.name())) {
            let engine = Self { kind, program: kind.name().to_owned() };
            match engine.answers() {
                Ok(()) => return Ok(engine),
                Err(error) => failures = format!("{failures}\n  {}", in_short(&error)),
            }
        }
        if ctx.dry_run {
            return Ok(Self { kind: Kind::Podman, program: "podman".to_owned() });
        }
        Err(explained(
            format!("none of podman, docker and buildah works here{failures}"),
            "one of them is needed to build the image",
            "sudo apt-get install podman",
        ))
    }

    pub(crate) fn named(program: &str) -> Result<Self> {
        let file = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
        let kind = KINDS.into_iter().find(|kind| file.starts_with(kind.name()));
        let Some(kind) = kind else {
            bail!("{program:?} is none of podman, docker and buildah");
        };
        Ok(Self { kind, program: program.to_owned() })
    }

    fn answers(&self) -> Result<()> {
        self.command("version").read().map(drop)
    }

    pub(crate) fn name(&self) -> &'static str {
        self.kind.name()
    }

    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    pub(crate) fn is_podman(&self) -> bool {
        self.kind == Kind::Podman
    }

    pub(crate) fn command(&self, words: &str) -> Command {
        Command::new("").arg(&self.program).words(words)
    }

    pub(super) fn look(&self, reference: &str) -> Result<State> {
        let inspect = match self.kind {
            Kind::Podman | Kind::Docker => self.command("image inspect"),
            Kind::Buildah => self.command("inspect --type image"),
        };
        match inspect.arg(reference).read() {
            Ok(_) => Ok(State::Met(reference.to_owned())),
            // None of the three says by its exit code what is wrong.
            Err(error) if error.is::<Failure>() => {
                Ok(State::Unmet(format!("{reference} is not there")))
            }
            Err(error) => Err(error),
        }
    }

    /// Without the time, so that the same content gives the same digest too. Attestations of buildx
    /// would make an index of it, with parts that the archive lacks.
    pub(crate) fn build(&self, context: &Path, reference: &str) -> Command {
        let build = match self.kind {
            Kind::Podman | Kind::Buildah => self.command("build --timestamp 0"),
            Kind::Docker => self
                .command("build")
                .variable("SOURCE_DATE_EPOCH", "0")
                .variable("BUILDX_NO_DEFAULT_ATTESTATIONS", "1"),
        };
        build.words("--tag").arg(reference).path(context)
    }

    pub(super) fn save(&self, reference: &str, archive: &Path) -> Command {
        match self.kind {
            Kind::Podman | Kind::Docker => {
                self.command("save --output").path(archive).arg(reference)
            }
            Kind::Buildah => {
                let to = format!("docker-archive:{}:{reference}", archive.display());
                self.command("push").arg(reference).arg(to)
            }
        }
    }

    pub(super) fn start(&self, reference: &str) -> Option<Command> {
        match self.kind {
            Kind::Podman | Kind::Docker => {
                Some(self.command("run --rm --network none").arg(reference).words("--version"))
            }
            Kind::Buildah => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_has_its_own_words() {
        let (context, archive) = (Path::new("context"), Path::new("image.tar"));
        let shown = KINDS.map(|kind| {
            let engine = Engine { kind, program: kind.name().to_owned() };
            let commands = [engine.build(context, "a/b:1"), engine.save("a/b:1", archive)];
            commands.map(|command| command.shown()).join("\n")
        });
        insta::assert_snapshot!(shown.join("\n"), @"
        podman build --timestamp 0 --tag a/b:1 context
        podman save --output image.tar a/b:1
        SOURCE_DATE_EPOCH=0 BUILDX_NO_DEFAULT_ATTESTATIONS=1 docker build --tag a/b:1 context
        docker save --output image.tar a/b:1
        buildah build --timestamp 0 --tag a/b:1 context
        buildah push a/b:1 docker-archive:image.tar:a/b:1
        ");
    }

    #[test]
    fn an_engine_is_known_by_the_name_of_its_program() {
        let engine = Engine::named("/opt/podman/bin/podman5").unwrap();
        assert_eq!(engine.command("version").shown(), "/opt/podman/bin/podman5 version");
        assert_eq!(engine.kind, Kind::Podman);
        let error = Engine::named("kaniko").unwrap_err().to_string();
        assert_eq!(error, "\"kaniko\" is none of podman, docker and buildah");
    }
}
