# As many jobs as there are objects, to see what planning costs.
if config["provider"]:

    storage remote:
        provider=config["provider"],


def located(path):
    return storage.remote(path) if config["provider"] else path


rule all:
    input:
        [located(f"{config['outputs']}/{n}.out") for n in range(config["count"])],


rule one:
    input:
        located(f"{config['inputs']}/{{n}}.in"),
    output:
        located(f"{config['outputs']}/{{n}}.out"),
    shell:
        config["command"]
