"""Certificates for a TLS listener and its clients, made anew for every run."""

import subprocess
from pathlib import Path

DAYS = "2"


def make(directory: Path) -> None:
    """Writes `ca`, `server` and `client` as `.pem` with `.key`, both signed by the first."""
    directory.mkdir(parents=True, exist_ok=True)
    openssl(
        directory, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", DAYS,
        "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem",
    )
    for name, subject in (("server", "localhost"), ("client", "guest")):
        extensions = directory / f"{name}.ext"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        openssl(
            directory, "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={subject}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr",
        )
        openssl(
            directory, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", DAYS, "-extfile", extensions.name,
            "-out", f"{name}.pem",
        )


def openssl(directory: Path, *arguments: str) -> None:
    """Runs openssl in the directory."""
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)
