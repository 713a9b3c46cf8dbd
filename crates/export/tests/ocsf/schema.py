# Prints, by class number, the JSON Schema of each class named: of a schema version, with profiles, self-contained.
import json
import sys

from ocsf_json_schema import get_ocsf_schema
from ocsf_json_schema.embedded import OcsfJsonSchemaEmbedded

version, profiles, *classes = sys.argv[1:]
raw = get_ocsf_schema(version)
schema = OcsfJsonSchemaEmbedded(raw)
of = lambda name: (raw["classes"][name]["uid"], schema.get_class_schema(name, profiles.split(",")))
print(json.dumps(dict(map(of, classes))))
