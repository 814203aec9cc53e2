import json, sys, numpy as np, collections
rows = {}
for p in sys.argv[1:]:
    for l in open(p):
        r=json.loads(l); rows[(r["name"],r["std"],r["k"],r["seed"])]=r
rules = {
 "hold": lambda r: r["hold"],
 "own": lambda r: r["own"]["score"] if r["own"]["sig"] else r["pca"],
 "own+gate": lambda r: r["own"]["score"] if r["own"]["sig"] and r["own"]["gate"] else r["pca"],
 "own+sh>0": lambda r: r["own"]["score"] if r["own"]["sig"] and r["own"]["gate"] and r["own"]["other"]>0 else r["pca"],
 "own+va>0": lambda r: r["own"]["score"] if r["own"]["sig"] and r["own"]["gate"] and r["own"].get("va",1)>0 else r["pca"],
 "va sig": lambda r: r["own"]["score"] if r["own"].get("vsig") and r["own"]["gate"] else r["pca"],
 "own+neff30": lambda r: r["own"]["score"] if r["own"]["sig"] and r["own"]["gate"] and r["own"]["neff"]>.25*0+30 else r["pca"],
 "shared": lambda r: r["shared"]["score"] if r["shared"]["sig"] else r["pca"],
}
g = collections.defaultdict(list)
for k,r in rows.items(): g[k[:3]].append({n:f(r)-r["pca"] for n,f in rules.items()})
print(f"{'':34s}", *(f"{n:>16s}" for n in rules))
for k,v in sorted(g.items(), key=str):
    print(f"{k[0]+(' std' if k[1] else ''):26s} {k[2]} {len(v):3d}  ", *(f"{np.mean([x[n] for x in v]):+.3f}/{min(x[n] for x in v):+.4f} " for n in rules))
