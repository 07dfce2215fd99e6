import time
from pathlib import Path
from tests.cluster.test_chart import release, HelmFailed
def test_try(release, tmp_path):
    c=tmp_path/"c"; (c/"templates").mkdir(parents=True)
    (c/"Chart.yaml").write_text("apiVersion: v2\nname: c\nversion: 1.0.0\n")
    pod='''
apiVersion: v1
kind: Pod
metadata:
  name: no-image-set-profile.image
  annotations: {helm.sh/hook: test, helm.sh/hook-delete-policy: "before-hook-creation,hook-succeeded", helm.sh/hook-output-log-policy: "%s"}
spec:
  restartPolicy: Never
  activeDeadlineSeconds: %d
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: a
    image: %s
    command: %s
    resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 16Mi}}
    terminationMessagePolicy: FallbackToLogsOnError
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
'''
    for k,(log,dead,image,cmd,flags) in enumerate((("hook-failed",2,"absent:1","[a]",()),("hook-failed",60,"localhost/hbseg-base:dev",'[python,-c,"print(12345);raise SystemExit(5)"]',()),("hook-failed",60,"localhost/hbseg-base:dev",'[python,-c,"print(12345);raise SystemExit(5)"]',("--logs",)),("hook-failed",60,"localhost/hbseg-base:dev",'[python,-c,"print(12345)"]',("--logs",)),("hook-failed,hook-succeeded",60,"localhost/hbseg-base:dev",'[python,-c,"print(12345)"]',()),)):
        (c/"templates"/"p.yaml").write_text(pod%(log,dead,image,cmd))
        release.helm.run("upgrade","--install","r",str(c))
        t=time.time()
        try: print("OK",release.helm.run("test","r","--timeout","60s",*flags))
        except HelmFailed as e: print("FAILED",e)
        print(f"==== {time.time()-t:.1f}")
    assert 0
