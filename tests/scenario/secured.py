"""secured -- the orders system on listeners with TLS, SASL and ACLs."""

import glob
import os
import resource
import secrets
import signal
import subprocess

import kafka_wire as wire
from scenario import scenario
from system import expect, free_port

ORDERING = ("orders", "inventory", "notifications")
PROTOCOLS = {"SCRAM": "SASL_SSL", "PLAIN": "SASL_SSL", "MUTUAL": "SSL",
             "EXPIRED": "SASL_SSL", "FOREIGN": "SASL_SSL"}


class Certificates:
    """An authority made by openssl, and what it and a stranger have signed."""

    # Elliptic, since such keys are made at once.
    KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
           "-nodes")

    def __init__(self, folder):
        self.folder = folder
        with open(self.path("names"), "w") as f:
            f.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        for authority in ("ca", "stranger"):
            self._openssl("req", "-x509", *self.KEY, "-days", "2", "-subj",
                          "/CN=" + authority, "-keyout", authority + ".key",
                          "-out", authority + ".pem")

    def path(self, name):
        return os.path.join(self.folder, name)

    def _openssl(self, *words):
        done = subprocess.run(["openssl", *words], cwd=self.folder,
                              capture_output=True, text=True)
        expect(done.returncode == 0, "openssl %s: %s", words, done.stderr)

    def sign(self, name, by="ca", days=2):
        """Make name.key, name.pem, and both in one, name.both."""
        self._openssl("req", *self.KEY, "-subj", "/CN=" + name, "-keyout",
                      name + ".key", "-out", name + ".csr")
        self._openssl("x509", "-req", "-in", name + ".csr", "-CA", by + ".pem",
                      "-CAkey", by + ".key", "-days", str(days),
                      "-extfile", "names", "-out", name + ".pem")
        with open(self.path(name + ".both"), "w") as both:
            for part in (".key", ".pem"):
                with open(self.path(name + part)) as f:
                    both.write(f.read())


class Secured:
    """A system whose broker has a listener for each way to be known."""

    def __init__(self, system):
        self.system = system
        self.certificates = Certificates(system.copies)
        self.path = self.certificates.path
        for name in ("broker", "notifications"):
            self.certificates.sign(name)
        self.certificates.sign("expired", days=-1)
        self.certificates.sign("foreign", by="stranger")
        self.passwords = {name: "canary-" + secrets.token_hex(16)
                          for name in ("orders", "inventory")}
        ports = {system.kafka_port, system.controller_port}
        self.ports = {name: free_port(ports) for name in PROTOCOLS}
        with open(self.path("broker.properties"), "w") as f:
            f.write("".join("%s=%s\n" % x for x in self._settings()))
        system.kafka_settings = {
            "KAFKA_PROPERTIES": self.path("broker.properties"),
            "KAFKA_FORMAT": "--add-scram\nSCRAM-SHA-512=[name=orders,"
            "password=%s]" % self.passwords["orders"]}

    def _settings(self):
        listeners = ["%s://127.0.0.1:%d" % x for x in (
            ("LOCAL", self.system.kafka_port), *self.ports.items())]
        yield "listeners", ",".join(listeners + [
            "CONTROLLER://127.0.0.1:%d" % self.system.controller_port])
        yield "advertised.listeners", ",".join(listeners)
        yield "listener.security.protocol.map", ",".join(
            "%s:%s" % x for x in (("LOCAL", "PLAINTEXT"),
                                  ("CONTROLLER", "PLAINTEXT"),
                                  *PROTOCOLS.items()))
        for name in PROTOCOLS:
            of = "listener.name.%s." % name.lower()
            held = name.lower() if name in ("EXPIRED", "FOREIGN") else "broker"
            yield of + "ssl.keystore.type", "PEM"
            yield of + "ssl.keystore.location", self.path(held + ".both")
            yield of + "ssl.truststore.type", "PEM"
            yield of + "ssl.truststore.location", self.path("ca.pem")
            yield of + "sasl.enabled.mechanisms", "SCRAM-SHA-512,PLAIN"
            yield of + "scram-sha-512.sasl.jaas.config", \
                "org.apache.kafka.common.security.scram.ScramLoginModule" \
                " required;"
            yield of + "plain.sasl.jaas.config", \
                "org.apache.kafka.common.security.plain.PlainLoginModule" \
                " required user_inventory=\"%s\";" % \
                self.passwords["inventory"]
        yield "listener.name.mutual.ssl.client.auth", "required"
        yield "listener.name.mutual.ssl.principal.mapping.rules", \
            "RULE:^CN=(.*)$/$1/"
        yield "authorizer.class.name", \
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
        yield "super.users", "User:ANONYMOUS"

    def properties(self, name, *lines, mode=0o600):
        """A properties file; its path."""
        path = self.path(name + ".properties")
        with open(path, "w") as f:
            f.write("# of %s\nssl.ca.location=%s\n%s\n" % (
                name, self.path("ca.pem"), "\n".join(lines)))
        os.chmod(path, mode)
        return path

    def sasl(self, name, mechanism, password=None):
        return self.properties(
            name, "security.protocol=SASL_SSL",
            "sasl.mechanism=" + mechanism, "sasl.username=" + name,
            "sasl.password=" + (password or self.passwords[name]))

    def certificate(self, name):
        return self.properties(
            "by-" + name, "security.protocol=SSL",
            "ssl.certificate.location=" + self.path(name + ".pem"),
            "ssl.key.location=" + self.path(name + ".key"))

    def start(self, instance, listener, properties, flags=()):
        self.system.start(
            instance, brokers="127.0.0.1:%d" % self.ports[listener],
            flags=flags, extra_env={"MILLRACE_PROPERTIES_FILE": properties})

    def says(self, instance, *parts):
        """It goes on, and its readiness and its log say why it can't work."""
        system, pid = self.system, self.system.services[instance].pid

        def told():
            ready, why = system.readiness(instance)
            said = system.log(instance, system.starts_at[instance])
            return not ready and all(p in why and p in said for p in parts)
        system.wait_for("%s says %r" % (instance, parts), told, 30)
        expect(system.services[instance].pid == pid and
               system.runs(instance), "%s ended", instance)

    def allow_all(self):
        """What the orders system needs, but for inventory's writing and
        notifications' group."""
        kafka = self.system.kafka()
        both = (wire.READ, wire.WRITE, wire.CREATE)
        for name, topic in (("orders", "order-events"),
                            ("inventory", "inventory-events")):
            for each in (topic, name + ".dead-letter"):
                kafka.allow(name, wire.TOPIC, each, *(
                    x for x in both if each != "inventory-events" or
                    x != wire.WRITE))
            kafka.allow(name, wire.GROUP, name, wire.READ)
        kafka.allow("orders", wire.TOPIC, "inventory-events", wire.READ)
        kafka.allow("inventory", wire.TOPIC, "order-events", wire.READ)
        kafka.allow("notifications", wire.TOPIC, "inventory-events", wire.READ)
        kafka.allow("notifications", wire.TOPIC, "notifications.dead-letter",
                    *both)
        kafka.close()


@scenario(kind="own", small=False, about_broker="kafka", seconds=15)
def secured_cluster(context):
    """SCRAM, PLAIN and client certificates over TLS, with ACLs: what is wrong
    is said and tried again, orders are decided once it is right, and no
    secret is where others could read it."""
    system = context.system
    secured = Secured(system)
    system.kafka_start()
    secured.allow_all()
    wrong_identities(secured)
    secured.start("orders", "SCRAM", secured.sasl("orders", "SCRAM-SHA-512"),
                  flags=("--property", "debug=security,broker,conf,protocol",
                         "--log-level", "debug"))
    secured.start("inventory", "PLAIN", secured.sasl("inventory", "PLAIN"))
    secured.start("notifications", "MUTUAL",
                  secured.certificate("notifications"))
    system.ready("orders", "inventory")
    missing_rights(secured)
    no_secrets(context, secured)
    system.stop_all()


def wrong_identities(secured):
    """The broker's certificate, a client's, and a password: each is named by
    a program that goes on trying."""
    right = secured.sasl("orders", "SCRAM-SHA-512")
    cases = (
        ("EXPIRED", right, ("certificate isn't accepted",
                            "certificate has expired")),
        ("FOREIGN", right, ("certificate isn't accepted",
                            "unable to get local issuer certificate")),
        ("MUTUAL", secured.certificate("expired"),
         ("alert certificate unknown",)),
        ("MUTUAL", secured.certificate("foreign"), ("alert bad certificate",)),
        ("SCRAM", secured.sasl("inventory", "SCRAM-SHA-512"),
         ("Authentication failed", "SCRAM-SHA-512")),
        ("PLAIN", secured.sasl("wrong", "PLAIN", "canary-wrong"),
         ("Authentication failed", "Invalid username or password")))
    instances = ["orders-%d" % (n + 2) for n in range(len(cases))]
    for instance, (listener, properties, _) in zip(instances, cases):
        secured.start(instance, listener, properties)
    for instance, (_, _, parts) in zip(instances, cases):
        secured.says(instance, *parts)
    secured.system.stop(*instances)


def missing_rights(secured):
    """What isn't allowed is said, and goes on once it is."""
    system = secured.system
    answer = system.call("orders", "POST", "/orders",
                         {"item": "Laptop", "quantity": 1})
    expect(answer.status == 201, "POST /orders: %r", answer)
    path = "/orders/" + answer.json()["id"]
    for instance, parts in (
            ("inventory", ("inventory-events", "uthorization failed")),
            ("notifications", ("Group authorization failed",))):
        system.wait_for("%s says %r" % (instance, parts), lambda: all(
            part in system.log(instance) for part in parts))
        expect(system.runs(instance), "%s ended", instance)
    kafka = system.kafka()
    kafka.allow("inventory", wire.TOPIC, "inventory-events", wire.WRITE)
    kafka.allow("notifications", wire.GROUP, "notifications", wire.READ)
    kafka.close()
    system.wait_for("the order is decided", lambda: system.call(
        "orders", "GET", path).json()["status"] == "CONFIRMED")
    system.wait_for("its customer is told", lambda: system.value(
        "notifications", "SELECT count(*) FROM notifications") == 1)
    system.ready(*ORDERING)


def no_secrets(context, secured):
    """In arguments, environment, logs, metrics, and what a crash leaves."""
    system = secured.system
    with open(secured.path("notifications.key")) as f:
        found = {"key": f.read().split("\n")[1].encode()}
    found.update((n, p.encode()) for n, p in secured.passwords.items())
    places = {}
    for instance in ORDERING:
        pid = system.services[instance].pid
        for name in ("cmdline", "environ"):
            with open("/proc/%d/%s" % (pid, name), "rb") as f:
                places["%s of %s" % (name, instance)] = f.read()
        places["metrics of " + instance] = system.call(
            instance, "GET", "/metrics").body
        places["answers of " + instance] = system.call(
            instance, "GET", "/readyz").body
    for log in os.listdir(system.logs):
        if log != "kafka.log":
            with open(os.path.join(system.logs, log), "rb") as f:
                places[log] = f.read()
    expect(b"SCRAM" in places["orders.log"], "orders doesn't debug")
    for where, text in places.items():
        for whose, secret in found.items():
            expect(secret not in text, "the secret of %s is in %s", whose,
                   where)
    context.say("%d places" % len(places))
    expect(dumps_core(secured, None), "no core is dumped at all here")
    expect(not dumps_core(secured, secured.sasl("orders", "SCRAM-SHA-512")),
           "there is a core dump with secrets")


def dumps_core(secured, properties):
    """Whether a program that is aborted leaves one, where it may write."""
    system = secured.system
    env = {"PATH": os.environ["PATH"]}
    if properties:
        env["MILLRACE_PROPERTIES_FILE"] = properties
    log = os.path.join(system.logs, "dump.log")
    with open(log, "wb") as out:
        dumper = subprocess.Popen(
            [os.path.join(system.settings.bin, "prices"), "--brokers",
             "127.0.0.1:%d" % secured.ports["SCRAM"], "--db",
             system.db_of("prices"), "--fcgi",
             "unix:" + system.socket_of("prices")], env=env, stdout=out,
            stderr=out, cwd=system.data, preexec_fn=lambda:
            resource.setrlimit(resource.RLIMIT_CORE, (
                resource.RLIM_INFINITY, resource.RLIM_INFINITY)))
    system.wait_for("it works", lambda: system.call("prices", "GET", "/livez"))
    os.kill(dumper.pid, signal.SIGABRT)
    _, status = os.waitpid(dumper.pid, 0)
    dumper.returncode = status
    left = glob.glob(os.path.join(system.data, "core*"))
    for core in left:
        os.remove(core)
    expect(os.WIFSIGNALED(status), "it ended with %d", status)
    return os.WCOREDUMP(status) or bool(left)
